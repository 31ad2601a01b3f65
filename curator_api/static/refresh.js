// Keeps a page up to date while something runs: fetches the page again and puts its <main> in place of the old one.
// The server stops it by leaving out `data-refresh-s`.
async function refresh() {
  const main = document.querySelector("main");
  const seconds = Number(main.dataset.refreshS);
  if (!seconds) return;
  await new Promise((done) => setTimeout(done, 1000 * seconds));
  const busy = main.contains(document.activeElement) || document.hidden; // never under somebody's hands
  if (!busy) {
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("main");
      if (answer.ok && fresh) main.replaceWith(fresh);
    } catch {
      // The server is away for a moment; the next round asks again.
    }
  }
  refresh();
}
refresh();
