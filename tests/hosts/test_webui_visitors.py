import base64
import sys
from types import ModuleType, SimpleNamespace

import pytest

from trainer_core.hosts.webui_visitors import is_public, is_welcome

PAGE = {"Host": "10.0.0.5:7860", "Referer": "http://10.0.0.5:7860/?__theme=dark"}
OTHER_SITE = {"Host": "10.0.0.5:7860", "Referer": "https://elsewhere.example/"}


@pytest.fixture
def options(monkeypatch):
    modules = ModuleType("modules")
    options = SimpleNamespace(listen=False, share=False, ngrok=None, server_name=None, api=False, api_auth=None)
    modules.shared = SimpleNamespace(cmd_opts=options)
    monkeypatch.setitem(sys.modules, "modules", modules)
    return options


def request(headers, auth=None, tokens=(), **cookies):
    app = SimpleNamespace(auth=auth, tokens=dict.fromkeys(tokens, "somebody"))
    return SimpleNamespace(headers=headers, cookies=cookies, app=app)


def basic(words):
    return {"Host": "10.0.0.5:7860", "Authorization": "Basic " + base64.b64encode(words.encode()).decode()}


@pytest.mark.parametrize("option", ["listen", "share", "ngrok", "server_name"])
def test_a_server_is_public_with_any_option_that_opens_it(options, option):
    assert not is_public()
    setattr(options, option, "1")
    assert is_public()


def test_the_uis_own_page_is_welcome_and_others_are_not(options):
    assert is_welcome(request(PAGE))
    assert is_welcome(request({"Host": "10.0.0.5:7860", "Origin": "http://10.0.0.5:7860"}))
    assert not is_welcome(request(OTHER_SITE))
    assert not is_welcome(request({**PAGE, "Origin": "https://elsewhere.example"}))
    assert not is_welcome(request({"Host": "10.0.0.5:7860"}))
    assert not is_welcome(request({"Origin": "", "Referer": ""}))


@pytest.mark.parametrize("cookie", ["access-token", "access-token-unsecure", "access-token-unsecure-3fQ"])
def test_behind_a_login_the_page_needs_its_token(options, cookie):
    login = {"anna": "secret"}
    assert is_welcome(request(PAGE, login, ["t1"], **{cookie: "t1"}))
    assert not is_welcome(request(PAGE, login, ["t1"], **{cookie: "t2"}))
    assert not is_welcome(request(PAGE, login, ["t1"], session="t1"))
    assert not is_welcome(request(PAGE, login, ["t1"]))
    assert not is_welcome(request(OTHER_SITE, login, ["t1"], **{cookie: "t1"}))


def test_a_program_needs_the_api_and_a_password_of_its(options):
    options.api, options.api_auth = True, "anna:secret, bob:a:b"
    assert is_welcome(request(basic("anna:secret")))
    assert is_welcome(request(basic("bob:a:b")))
    assert not is_welcome(request(basic("anna:wrong")))
    assert not is_welcome(request(basic("anna")))
    assert not is_welcome(request({"Authorization": "Basic ?!"}))
    assert not is_welcome(request({"Authorization": "Bearer YW5uYTpzZWNyZXQ="}))
    options.api = False
    assert not is_welcome(request(basic("anna:secret")))
    options.nowebui = True  # the API alone
    assert is_welcome(request(basic("anna:secret")))
    options.api, options.api_auth = True, None
    assert not is_welcome(request(basic("")))
