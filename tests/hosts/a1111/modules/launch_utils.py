def git_tag():
    return "<none>"
