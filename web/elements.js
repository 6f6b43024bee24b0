/** An element with a class and contents; text becomes text, never markup. */
export function made(kind, className = "", ...contents) {
  const element = document.createElement(kind);
  element.className = className;
  if (kind === "button") {
    element.type = "button";
  }
  element.append(...contents);
  return element;
}
