"""The look of a page: light and dark, wide and narrow."""

CSS = """
:root{--ink:#1b1f24;--muted:#5b6570;--grid:#dfe3e8;--paper:#ffffff;--ground:#f4f6f8;--accent:#0060a0;--note:#fff5dc;
--edge:#c98a00;--good:#1a7f37;--bad:#b3261e}
@media (prefers-color-scheme:dark){:root{--ink:#e8ebef;--muted:#a3acb8;--grid:#363d47;--paper:#1b1f25;--ground:#12151a;
--accent:#79bdf2;--note:#2e2713;--edge:#e0a52e;
--good:#5fd07c;--bad:#ff9a90}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
main,header{max-width:72rem;margin:0 auto;padding:0 1rem}
main{padding-bottom:4rem}
main:focus{outline:none}
header{padding-top:1.5rem;margin-bottom:1.25rem}
nav ul{display:flex;flex-wrap:wrap;gap:.1rem 1.1rem;list-style:none;padding:0;max-width:none;font-size:.9rem}
nav a{display:inline-block;padding:.15rem 0}
.skip{position:absolute;left:-99rem;background:var(--paper);padding:.5rem 1rem;z-index:9}
.skip:focus{left:.5rem;top:.5rem}
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
.scroll:focus-visible,.plot:focus-visible,a:focus-visible,summary:focus-visible,button:focus-visible,
input:focus-visible,select:focus-visible,h3:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
h3:focus{outline-offset:4px}
[hidden]{display:none!important}
.controls{display:flex;flex-wrap:wrap;gap:.5rem .75rem;align-items:end;margin:.75rem 0;border:0;padding:0}
.controls label{display:flex;flex-direction:column;font-size:.8125rem;color:var(--muted);max-width:100%}
.controls label.tick{flex-direction:row;align-items:center;gap:.35rem;color:var(--ink);min-height:1.75rem}
.controls .wide{flex:1 1 20rem;min-width:0}
input,select,button{font:inherit;font-size:.875rem;color:var(--ink);background:var(--ground);border:1px solid
var(--muted);border-radius:6px;padding:.3rem .55rem;min-height:2rem;max-width:100%}
input[type=checkbox]{min-height:0;width:1.05rem;height:1.05rem;margin:0;accent-color:var(--accent)}
button{cursor:pointer}
button:disabled{opacity:.5;cursor:default}
th button{background:none;border:0;padding:0;min-height:1.6rem;font-weight:inherit;font-size:inherit;text-align:inherit;
white-space:nowrap;color:var(--accent);text-decoration:underline;text-underline-offset:.2em}
td button{min-height:1.6rem;padding:.05rem .5rem;font-size:.8125rem}
.plot{width:100%;height:26rem;touch-action:pan-y}
.reading{min-height:1.6rem;font-variant-numeric:tabular-nums;font-weight:600;max-width:none}
.key{display:flex;flex-wrap:wrap;gap:.2rem 1rem;list-style:none;padding:0;font-size:.8125rem;max-width:none}
.swatch{width:.9rem;height:.9rem;border-radius:50%;border:1px solid var(--ink);flex:none}
fieldset{min-width:0}
legend{font-size:.8125rem;color:var(--muted);padding:0;float:left;width:100%}
.mark{display:inline-block;width:1.5rem;height:.9rem;margin-right:.4rem;vertical-align:-.1rem}
.mark.line{border-top:2px solid var(--ink);height:.35rem}
.mark.level{border-top:3px solid var(--accent);height:.35rem}
.mark.step{border-left:2px dashed var(--bad);width:.3rem;margin-left:.6rem}
.mark.dot,.mark.ring{width:.6rem;height:.6rem;border:1px solid var(--ink);border-radius:50%;vertical-align:0}
.mark.dot{background:var(--ink)}
.changes{padding-left:1.5rem;margin:0}
.changes li{margin:0 0 1rem;max-width:56rem}
.sketch{display:block;width:100%;max-width:36rem;height:3.5rem;margin-top:.25rem}
.sketch path{fill:none;vector-effect:non-scaling-stroke}
.sketch .dots{stroke:var(--muted);stroke-width:2.2;stroke-linecap:round}
.sketch .level{stroke:var(--accent);stroke-width:1.8}
.sketch .at{stroke:var(--edge);stroke-width:1.5;stroke-dasharray:3 2}
.mark.idle{border-top:2px dashed var(--edge);height:.35rem}
.mark.window{background:var(--accent);opacity:.3}
.mark.guard{background:var(--muted);opacity:.45}
.good{color:var(--good);font-weight:600}
.bad{color:var(--bad);font-weight:600}
.dim{color:var(--muted)}
figure{margin:0 0 1.75rem}
figure svg{display:block;width:100%;min-width:min(34rem,var(--wide,34rem));height:auto;
font-family:"DejaVu Sans",Verdana,system-ui,sans-serif}
figcaption a{margin-right:.75rem}
table{border-collapse:collapse;font-size:.8125rem;font-variant-numeric:tabular-nums;width:100%}
th,td{padding:.35rem .5rem;text-align:left;border-bottom:1px solid var(--grid);vertical-align:top}
thead th{border-bottom:2px solid var(--muted);white-space:nowrap}
tbody th{font-weight:600;min-width:7.5rem}
td.figure,th.figure{text-align:right;white-space:nowrap}
.live tbody th{font-weight:500;white-space:nowrap}
wbr{display:none}
td.words{min-width:13rem;max-width:24rem}
abbr{text-decoration:none;color:var(--muted);margin-left:.1em}
.facts{margin:.25rem 0}
.facts div{display:grid;grid-template-columns:minmax(9rem,16rem) 1fr;gap:.25rem 1rem;padding:.25rem 0;
border-bottom:1px solid var(--grid);font-size:.9rem}
.facts dt{color:var(--muted)}
.facts dd{margin:0;min-width:0;overflow-wrap:anywhere}
pre{background:var(--ground);border-radius:8px;padding:.75rem;overflow-x:auto;font-size:.8125rem}
details{margin:.5rem 0 1rem}
summary{cursor:pointer;font-weight:600}
@media (max-width:40rem){main,header{padding-left:.6rem;padding-right:.6rem}.plot{height:22rem}
.live tbody th{white-space:normal;min-width:9rem;overflow-wrap:anywhere}wbr{display:inline}
section{padding:1rem .8rem}h1{font-size:1.4rem}
.facts div{grid-template-columns:1fr}}
@media print{.controls,nav,.skip{display:none}body{background:#fff}section{break-inside:avoid-page;border:0;padding:0}}
"""
