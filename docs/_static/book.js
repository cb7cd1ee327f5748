// The theme's two drawers open with labels of hidden checkboxes, which the keyboard does not reach.
function makeButtons(id, name, drawer) {
  const toggle = document.getElementById(id);
  const buttons = [...document.querySelectorAll(`label[for="${id}"]:not(.overlay)`)].map((label) => {
    const button = document.createElement("button");
    button.className = label.className;
    button.setAttribute("aria-label", name);
    button.append(...label.childNodes);
    button.addEventListener("click", () => toggle.click());
    drawer.addEventListener("keydown", (event) => event.key === "Escape" && button.focus({ preventScroll: true }));
    label.replaceWith(button);
    return button;
  });
  const tellState = () => buttons.forEach((button) => button.setAttribute("aria-expanded", toggle.checked));
  const close = () => toggle.checked && toggle.click();
  drawer.addEventListener("focusout", (event) => event.relatedTarget && !drawer.contains(event.relatedTarget) && close());
  drawer.addEventListener("click", (event) => event.target.closest("a") && close());
  toggle.addEventListener("change", () => {
    tellState();
    const shown = [...drawer.querySelectorAll("a")].find((link) => link.offsetParent);
    if (toggle.checked) shown?.focus({ preventScroll: true });
  });
  tellState();
}
makeButtons("__navigation", "Contents of the book", document.querySelector(".sidebar-drawer"));
makeButtons("__toc", "Contents of this page", document.querySelector(".toc-drawer"));

// A box is a stop of the Tab key only while it scrolls.
function markBoxes() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, .output")) {
    const name = box.closest(".cell_output") ? "output" : box.matches("pre") ? "code" : "table";
    const attributes = { tabindex: "0", role: "group", "aria-label": name };
    for (const [key, value] of Object.entries(attributes)) {
      if (box.scrollWidth > box.clientWidth + 1) box.setAttribute(key, value);
      else box.removeAttribute(key);
    }
  }
}
for (const change of ["load", "resize"]) addEventListener(change, markBoxes);
