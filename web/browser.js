// A dataset's pictures and tags: click a tag to see its pictures, remove it everywhere, edit a caption in place.
// Knows nothing of any host. It asks a server with
//   read(dataset) → {folder, may_edit, undo: {number, what, files} | null, pictures: [{id, name, caption}]},
//   edit(dataset, what, values) → the same afterwards, thumbnail(dataset, picture) → an address;
// what these throw has a sentence for the person as its message.

import { countedTags, many, tagsLike, withTag } from "./tags.js";

const PAGE = 60;
const MOST_TAGS = 400;

export class DatasetBrowser {
  constructor(server) {
    this.server = server;
    this.dataset = null;
    this.state = { folder: "", may_edit: false, undo: null, pictures: [] };
    this.tag = null;
    this.room = PAGE;
    this.cells = new Map();
    this.build();
  }

  /** Show the dataset with this id, as it is now. */
  async open(dataset) {
    if (dataset !== this.dataset) {
      this.dataset = dataset;
      this.tag = null;
      this.cells.clear();
      this.grid.replaceChildren();
    }
    await this.take(() => this.server.read(dataset), "");
  }

  async edit(what, values, said) {
    const isDone = await this.take(() => this.server.edit(this.dataset, what, values), said);
    if (!isDone) {
      await this.take(() => this.server.read(this.dataset)); // what is there now, under the words of the refusal
    }
  }

  /** Show what the server answers, and these words; or why it refuses. Gives whether it did not. */
  async take(ask, said = null) {
    try {
      this.state = await ask();
    } catch (error) {
      this.say(error.message, true);
      return false;
    }
    if (said !== null) {
      this.say(said);
    }
    this.render();
    return true;
  }

  build() {
    this.title = made("strong");
    this.status = made("span", "lazylora-status");
    this.status.setAttribute("role", "status");
    this.undoButton = made("button", "", "undo");
    this.undoButton.onclick = () => this.edit("undo", { number: this.state.undo.number }, "undone");
    this.wideButton = made("button", "", "enlarge");
    this.wideButton.onclick = () => this.enlarge();
    const head = made("div", "lazylora-head", this.title, this.status, this.undoButton, this.wideButton);

    this.search = made("input");
    this.search.type = "search";
    this.search.placeholder = "find a tag";
    this.search.oninput = () => this.renderTags();
    this.tags = made("div", "lazylora-tags");
    const left = made("div", "lazylora-left", this.search, this.tags);

    this.chosen = made("span", "lazylora-chosen");
    this.removeButton = made("button", "", "remove everywhere");
    this.removeButton.onclick = () => this.removeTag();
    this.allButton = made("button", "", "all pictures");
    this.allButton.onclick = () => this.choose(null);
    const bar = made("div", "lazylora-bar", this.chosen, this.removeButton, this.allButton);
    this.grid = made("div", "lazylora-grid");
    this.moreButton = made("button", "lazylora-more", "more pictures");
    this.moreButton.onclick = () => this.showMore();
    this.scroll = made("div", "lazylora-scroll", this.grid, this.moreButton);
    const right = made("div", "lazylora-right", bar, this.scroll);

    this.page = made("div", "lazylora-browser", head, made("div", "lazylora-body", left, right));
    // the graph's canvas below would zoom, drag and delete nodes
    for (const kind of ["wheel", "pointerdown", "keydown", "copy", "cut", "paste"]) {
      this.page.addEventListener(kind, (event) => event.stopPropagation());
    }
    this.element = made("div", "lazylora-place", this.page);
    this.render();
  }

  choose(tag) {
    this.tag = tag;
    this.room = PAGE;
    this.scroll.scrollTop = 0;
    this.render();
  }

  removeTag() {
    const tag = this.tag;
    const count = withTag(this.state.pictures, tag).length;
    this.tag = null;
    this.edit("remove_tag", { tag }, `removed ${tag} from ${many(count, "caption")}`);
  }

  showMore() {
    this.room += PAGE;
    this.render();
  }

  /** The whole window for the browser, until it is closed. */
  enlarge() {
    if (this.dialog) {
      this.dialog.close();
      return;
    }
    this.dialog = made("dialog", "lazylora-dialog", this.page);
    this.dialog.onclose = () => {
      this.element.append(this.page);
      this.dialog.remove();
      this.dialog = null;
      this.wideButton.textContent = "enlarge";
    };
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.wideButton.textContent = "close";
  }

  say(words, isTrouble = false) {
    this.status.textContent = words;
    this.status.classList.toggle("lazylora-trouble", isTrouble);
  }

  render() {
    const { folder, may_edit, undo, pictures } = this.state;
    this.title.textContent = folder ? `${folder}: ${many(pictures.length, "picture")}` : "";
    this.undoButton.hidden = !undo;
    this.undoButton.textContent = undo ? `undo: ${undo.what} (${many(undo.files, "file")})` : "";
    const shown = withTag(pictures, this.tag);
    this.chosen.textContent = this.chosenWords(shown.length);
    this.removeButton.hidden = this.tag === null || !may_edit;
    this.allButton.hidden = this.tag === null;
    this.moreButton.hidden = shown.length <= this.room;
    this.renderTags();
    this.renderPictures(shown.slice(0, this.room));
  }

  chosenWords(count) {
    if (this.tag !== null) {
      return `${this.tag}: on ${many(count, "picture")}`;
    }
    return this.state.may_edit || !this.state.folder
      ? "Captions as their files have them; a click into one edits it."
      : "Captions as their files have them. To edit them, move the folder into ComfyUI's input folder.";
  }

  renderTags() {
    const found = tagsLike(countedTags(this.state.pictures), this.search.value);
    const buttons = found.slice(0, MOST_TAGS).map(({ tag, count }) => {
      const button = made("button", "lazylora-tag", made("span", "", tag), made("small", "", String(count)));
      button.setAttribute("aria-pressed", String(tag === this.tag));
      button.onclick = () => this.choose(tag === this.tag ? null : tag);
      return button;
    });
    if (found.length > MOST_TAGS) {
      buttons.push(made("p", "", `and ${many(found.length - MOST_TAGS, "rarer tag")}: find them above`));
    }
    this.tags.replaceChildren(...buttons);
  }

  /** Cells that stay are left where they are, so that a caption that somebody is writing keeps the cursor. */
  renderPictures(pictures) {
    const wanted = pictures.map((picture) => this.cellOf(picture).element);
    const isWanted = new Set(wanted);
    [...this.grid.children].filter((each) => !isWanted.has(each)).forEach((each) => each.remove());
    wanted.forEach((element, place) => {
      if (this.grid.children[place] !== element) {
        this.grid.insertBefore(element, this.grid.children[place] ?? null);
      }
    });
  }

  cellOf(picture) {
    let cell = this.cells.get(picture.id);
    if (!cell) {
      cell = new Cell(picture, this.server.thumbnail(this.dataset, picture.id), (seen, caption) =>
        this.edit("caption", { picture: picture.id, seen, caption }, `written: ${picture.name}`));
      this.cells.set(picture.id, cell);
    }
    cell.update(picture.caption, this.state.may_edit);
    return cell;
  }
}

/** One picture with its caption, which is written when it was changed and is left, or Enter is pressed. */
class Cell {
  constructor({ name, caption }, thumbnail, write) {
    this.seen = this.now = caption;
    const image = made("img");
    Object.assign(image, { loading: "lazy", alt: name, title: name, src: thumbnail });
    this.text = made("textarea");
    Object.assign(this.text, { value: caption, rows: 4, spellcheck: false, placeholder: "no caption" });
    this.text.setAttribute("aria-label", `caption of ${name}`);
    this.text.onkeydown = (event) => this.press(event);
    this.text.onchange = () => write(this.seen, this.text.value);
    this.element = made("figure", "lazylora-cell", image, this.text);
  }

  /** Enter writes the caption, Escape puts back what the file says. */
  press(event) {
    if (event.key !== "Enter" && event.key !== "Escape") {
      return;
    }
    event.preventDefault();
    if (event.key === "Escape") {
      this.text.value = this.seen = this.now;
    }
    this.text.blur();
  }

  /** What the file says now; words that are being written stay. */
  update(caption, mayEdit) {
    if (this.text.value === this.seen || this.text.value === caption) {
      this.text.value = this.seen = caption;
    }
    this.now = caption;
    this.text.readOnly = !mayEdit;
  }
}

/** Text becomes text, never markup. */
function made(kind, className = "", ...contents) {
  const element = document.createElement(kind);
  element.className = className;
  if (kind === "button") {
    element.type = "button";
  }
  element.append(...contents);
  return element;
}
