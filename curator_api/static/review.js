// Keys of the review page: each does what the button, link or part of the page does that carries it as `data-key`.
let sent = false;

function typing(element) {
  return element.closest("input, textarea, select") !== null;
}

function act(wanted) {
  if (wanted.matches("details")) {
    wanted.open = !wanted.open;
    const answer = wanted.querySelector("textarea[name^='output-']"); // what most often has to be fixed
    if (wanted.open) (answer ?? wanted.querySelector("textarea"))?.focus();
  } else if (wanted.matches("input")) {
    wanted.focus();
  } else {
    wanted.click();
  }
}

// Saves what is being written: with the button that the form says it is saved by.
function save(element) {
  const form = element.closest("form");
  const button = form?.querySelector("[data-save]");
  if (button) form.requestSubmit(button);
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.repeat) save(event.target);
  if (event.key === "Escape" && typing(event.target)) event.target.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || typing(event.target)) return;
  const wanted = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (!wanted) return;
  event.preventDefault();
  act(wanted);
});

// A second press, before the next log is there, would be a decision on a log that nobody has seen.
document.addEventListener("submit", (event) => {
  if (sent) event.preventDefault();
  sent = true;
});
window.addEventListener("pageshow", () => {
  sent = false; // the browser may show this very page again on its way back
});
