// A1111 and Forge load this file by themselves. It brings our tab to life and gives it the way to txt2img that
// web/tab.js asks for, through the functions that the UI's own cards and buttons use.

(() => {
  const TAG = /<lora:([^:<>]+)(?::[^<>]*)?>/g;
  const runOf = (stem) => stem.replace(/-\d{6}$/, "");
  const promptArea = () => gradioApp().querySelector("#txt2img_prompt textarea");

  function setPrompt(text) {
    promptArea().value = text;
    updateInput(promptArea());
  }

  /** The prompt with what `text` holds: an epoch in the place of another of its run, and words that are not there. */
  function withWords(prompt, text) {
    const runs = [...text.matchAll(TAG)].map((found) => runOf(found[1]));
    const kept = prompt.replace(TAG, (tag, stem) => (runs.includes(runOf(stem)) ? "" : tag)).trim().replace(/,$/, "");
    const words = text.split(",").map((part) => part.trim());
    return [kept, ...words.filter((word) => word && !kept.includes(word))].filter(Boolean).join(", ");
  }

  globalThis.lazyloraUi = {
    /** What the plot's fields get when openXyzPlot presses the button that fills them. */
    wantedPlot: {},

    /** text: a `<lora:…>` and the words that call it, as they belong into a prompt. */
    sendToTxt2img(text) {
      setPrompt(withWords(promptArea().value, text));
      switch_to_txt2img();
    },

    /** Open txt2img with the X/Y/Z plot over these epochs filled in; the person looks at it and starts it. */
    openXyzPlot({ prompt, stems, weights = [] }) {
      this.wantedPlot = { epochs: ["", ...stems], weights };
      setPrompt(withWords(promptArea().value, prompt));
      gradioApp().querySelector("#lazylora_open_plot")?.click();
      switch_to_txt2img();
      gradioApp().querySelector("#txt2img_script_container")?.scrollIntoView({ block: "center" });
    },
  };

  /** Bring the tab to life; the page may be there seconds before our routes are. */
  async function begin() {
    const script = new URL("lazylora/web/tab.js", document.baseURI);
    const answer = await fetch(script).catch(() => ({ ok: false }));
    if (answer.ok) {
      await import(script);
    } else {
      setTimeout(begin, 2000);
    }
  }

  onUiLoaded(begin);
})();
