"""Owns the looks of the reference page."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ground: #fff; --text: #1c2128; --soft: #59636e; --line: #d9dee3;
  --panel: #f6f8fa; --link: #0757ba; --get: #1a7f37; --post: #0757ba; --patch: #8a5a00; --delete: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ground: #0f1318; --text: #e6e9ed; --soft: #9aa4af;
  --line: #2b323a; --panel: #171c22; --link: #7ab4ff; --get: #5ccb78; --post: #7ab4ff; --patch: #e0b250;
  --delete: #ff8a80; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; display: grid; grid-template-columns: 18rem minmax(0, 1fr); background: var(--ground);
  color: var(--text); font: 16px/1.55 system-ui, sans-serif; }
nav { position: sticky; top: 0; height: 100vh; overflow: auto; padding: 1.5rem 1rem;
  border-right: 1px solid var(--line); font-size: .875rem; }
nav h3 { margin: 1.2rem 0 .3rem; font-size: .8rem; text-transform: uppercase; letter-spacing: .06em;
  color: var(--soft); }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li a { display: grid; grid-template-columns: 3.5rem minmax(0, 1fr); align-items: baseline; padding: .2rem 0;
  color: var(--text); }
main { padding: 2rem clamp(1rem, 4vw, 3.5rem) 6rem; max-width: 62rem; }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus-visible { text-decoration: underline; }
h1 { margin-top: 0; } h1 small { color: var(--soft); font-weight: 400; font-size: 1rem; }
h2 { margin: 3rem 0 1rem; padding-bottom: .3rem; text-transform: capitalize;
  border-bottom: 1px solid var(--line); }
h4 { margin: 1rem 0 .3rem; font-size: .85rem; color: var(--soft); }
article { margin: 0 0 1.5rem; padding: 1rem 1.25rem; border: 1px solid var(--line); border-radius: .6rem;
  scroll-margin-top: 1rem; }
article:target { border-color: var(--link); box-shadow: 0 0 0 1px var(--link); }
article h3 { margin: 0 0 .5rem; font-size: 1.05rem; overflow-wrap: anywhere; }
article p { margin: .4rem 0; }
.problem { display: flex; gap: 1rem; align-items: baseline; padding: .4rem 1rem; margin-bottom: .5rem; }
.problem h3 { margin: 0; }
code { font: .875em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--panel);
  padding: .1em .3em; border-radius: .25rem; }
small, .access, .kind { color: var(--soft); } .access { font-size: .9rem; }
.method { display: inline-block; min-width: 3.4em; font: 700 .72rem ui-monospace, monospace; color: var(--get); }
.post { color: var(--post); } .patch, .put { color: var(--patch); } .delete { color: var(--delete); }
.required { color: var(--delete); padding-left: .15em; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
td { padding: .35rem .75rem .35rem 0; border-top: 1px solid var(--line); vertical-align: top; }
td:not(:last-child) { white-space: nowrap; width: 1%; }
summary { cursor: pointer; margin-top: 1rem; font-size: .85rem; font-weight: 700; color: var(--soft); }
summary code { font-weight: 400; }
@media (max-width: 50rem) { body { grid-template-columns: minmax(0, 1fr); }
  nav { position: static; height: auto; border-right: 0; border-bottom: 1px solid var(--line); } }
"""
"""Inline in the page. Light and dark, wide and narrow, without a script."""
