"use strict";
const $ = selector => document.querySelector(selector);

// Formulas
for (const span of document.querySelectorAll("span.math"))
  katex.render(span.textContent, span, {displayMode: span.classList.contains("display"), throwOnError: false});

// Light and dark
$("#theme").onclick = () => {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.theme = root.dataset.theme } catch { /* storage may be forbidden */ }
};

// The chapters, on a phone
$("#menu").onclick = () => $("#menu").setAttribute("aria-expanded", document.body.classList.toggle("open"));
const here = $("#nav [aria-current]");
if (here) $("#nav").scrollTop = here.offsetTop - 200;

// The section being read
const entries = [...document.querySelectorAll("#toc li a")];
const headings = entries.map(a => document.getElementById(decodeURIComponent(a.hash.slice(1))));
function markSection() {
  const reading = headings.findLastIndex(h => h && h.getBoundingClientRect().top < 120);
  entries.forEach((a, i) => a.classList.toggle("reading", i === reading));
}
addEventListener("scroll", markSection, {passive: true});
markSection();

// A button that copies the code
for (const pre of document.querySelectorAll("pre.sourceCode")) {
  const button = document.createElement("button");
  button.className = "copy";
  button.textContent = "copy";
  button.onclick = async () => {
    await navigator.clipboard.writeText(pre.innerText);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy" }, 1500);
  };
  pre.parentElement.append(button);
}

// Search: the index is a script and not JSON, so that it loads from file:// too; it is fetched at the first key
const box = $("#search"), hits = $("#hits");
let index, chosen = 0;
function loadIndex() {
  index ??= new Promise(resolve => {
    const script = document.createElement("script");
    script.src = "search.js";
    script.onload = () => resolve(searchIndex);
    document.head.append(script);
  });
  return index;
}

function score(entry, words) {
  const heading = entry.heading.toLowerCase(), page = entry.page.toLowerCase(), text = entry.text.toLowerCase();
  let total = 0;
  for (const word of words) {
    const found = (heading === word ? 40 : heading.startsWith(word) ? 12 : heading.includes(word) ? 8 : 0)
      + (page.includes(word) ? 3 : 0) + (text.includes(word) ? 1 : 0);
    if (!found) return 0;
    total += found;
  }
  return total;
}

function link(entry, word) {
  const a = document.createElement("a"), title = document.createElement("b"), page = document.createElement("small"), text = document.createElement("span");
  const near = entry.text.toLowerCase().indexOf(word) - 40;
  const at = near > 0 ? entry.text.indexOf(" ", near) + 1 : 0;
  a.href = entry.url;
  title.textContent = entry.heading;
  page.textContent = entry.page;
  text.textContent = (at ? "…" : "") + entry.text.slice(at, at + 130);
  a.append(title, page, text);
  return a;
}

function choose(i) {
  const links = [...hits.querySelectorAll("a")];
  if (!links.length) return;
  chosen = (i + links.length) % links.length;
  links.forEach((a, n) => a.classList.toggle("chosen", n === chosen));
  links[chosen].scrollIntoView({block: "nearest"});
}

box.oninput = async () => {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = words.length ? (await loadIndex()).map(entry => [score(entry, words), entry]).filter(([s]) => s) : [];
  hits.hidden = !words.length;
  hits.replaceChildren(...found.sort((a, b) => b[0] - a[0]).slice(0, 12).map(([, entry]) => link(entry, words[0])));
  if (!found.length) hits.textContent = "Nothing found.";
  choose(0);
};
box.onfocus = loadIndex;
box.onkeydown = event => {
  if (event.key === "Escape") { hits.hidden = true; box.blur() }
  else if (event.key === "Enter") hits.querySelector("a.chosen")?.click();
  else if (event.key === "ArrowDown") { event.preventDefault(); choose(chosen + 1) }
  else if (event.key === "ArrowUp") { event.preventDefault(); choose(chosen - 1) }
};
hits.onclick = () => { hits.hidden = true };
addEventListener("click", event => { if (!event.target.closest(".search")) hits.hidden = true });
addEventListener("keydown", event => {
  if (event.key === "/" && !event.target.closest("input")) { event.preventDefault(); box.focus() }
});
