"""The look of the report page: light and dark, wide and narrow."""

CSS = """
:root{--ink:#1b1f24;--muted:#5b6570;--grid:#dfe3e8;--paper:#ffffff;--ground:#f4f6f8;--accent:#0060a0;--note:#fff5dc;
--edge:#c98a00}
@media (prefers-color-scheme:dark){:root{--ink:#e8ebef;--muted:#a3acb8;--grid:#363d47;--paper:#1b1f25;--ground:#12151a;
--accent:#79bdf2;--note:#2e2713;--edge:#e0a52e}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
main{max-width:72rem;margin:0 auto;padding:1.5rem 1rem 4rem}
header{margin-bottom:1.5rem}
h1{font-size:1.75rem;line-height:1.25;margin:.5rem 0;text-wrap:balance}
h2{font-size:1.25rem;margin:0 0 .75rem}
h3{font-size:1rem;margin:1.5rem 0 .5rem}
section{background:var(--paper);border:1px solid var(--grid);border-radius:12px;padding:1.25rem;margin:0 0 1.25rem}
p{margin:.5rem 0;max-width:48rem}
ul{margin:.25rem 0;padding-left:1.25rem;max-width:48rem}
li{margin:.2rem 0}
a{color:var(--accent)}
.muted,figcaption{color:var(--muted);font-size:.875rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(13rem,1fr));gap:.75rem;margin:0 0 1rem}
.tiles div{display:flex;flex-direction:column-reverse;justify-content:flex-end;background:var(--ground);
border-radius:10px;padding:.75rem 1rem}
.tiles dt{color:var(--muted);font-size:.875rem;line-height:1.4}
.tiles dd{margin:0;font-size:1.9rem;font-weight:650;line-height:1.2;font-variant-numeric:tabular-nums}
.note{background:var(--note);border-left:4px solid var(--edge);border-radius:6px;padding:.75rem 1rem;margin-top:1.25rem}
.note h3{margin:0 0 .25rem}
.scroll{overflow-x:auto}
.scroll:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
figure{margin:0 0 1.75rem}
figure svg{display:block;width:100%;min-width:min(34rem,var(--wide,34rem));height:auto;
font-family:"DejaVu Sans",Verdana,system-ui,sans-serif}
figcaption a{margin-right:.75rem}
table{border-collapse:collapse;font-size:.8125rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.35rem .5rem;text-align:left;border-bottom:1px solid var(--grid);vertical-align:top}
thead th{border-bottom:2px solid var(--muted);white-space:nowrap}
tbody th{font-weight:600;min-width:7.5rem}
td.figure{text-align:right;white-space:nowrap}
thead th:nth-child(n+4){text-align:right}
abbr{text-decoration:none;color:var(--muted);margin-left:.1em}
.facts{margin:.25rem 0}
.facts div{display:grid;grid-template-columns:minmax(9rem,16rem) 1fr;gap:.25rem 1rem;padding:.25rem 0;
border-bottom:1px solid var(--grid);font-size:.9rem}
.facts dt{color:var(--muted)}
.facts dd{margin:0;min-width:0;overflow-wrap:anywhere}
pre{background:var(--ground);border-radius:8px;padding:.75rem;overflow-x:auto;font-size:.8125rem}
details{margin:.5rem 0 1rem}
summary{cursor:pointer;font-weight:600}
@media (max-width:40rem){main{padding:1rem .6rem 3rem}section{padding:1rem .8rem}h1{font-size:1.4rem}
.facts div{grid-template-columns:1fr}}
@media print{body{background:#fff}section{break-inside:avoid-page;border:0;padding:0}}
"""
