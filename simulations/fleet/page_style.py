"""How a simulation's page looks, and the one thing that it does: filter its transcript."""

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--paper:#fff;--ink:#1b2430;--dim:#5d6b7a;--line:#e3e8ee;--card:#f7f9fb;
--none:#c9d1da;--v1:#9fb0c3;--v2:#2f6fd0;--v3:#139a86;--v4:#8a5bd6;--v5:#c7822b;--v6:#b8436f;
--good:#2f6fd0;--done:#1d9a6c;--warn:#e0a021;--wait:#c9d1da;--bad:#d3453d;--away:#77818c}
@media(prefers-color-scheme:dark){:root{--paper:#12171d;--ink:#e6ebf0;--dim:#93a1b0;--line:#2a333d;
--card:#1a2129;--none:#3d4854;--v1:#5f7186;--v2:#5b96ee;--v3:#35c0a8;--v4:#ac86ee;--v5:#dfa050;
--v6:#dd6f96;--good:#5b96ee;--done:#3cbd8b;--warn:#edb748;--wait:#3d4854;--bad:#ea6a62;--away:#8c98a5}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1100px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:26px;line-height:1.25;margin:0 0 16px;letter-spacing:-.01em}
h2{font-size:17px;margin:0}
section{margin-top:36px;border-top:1px solid var(--line);padding-top:20px}
section>p{margin:2px 0 10px;color:var(--dim)}
.none{color:var(--dim)}
.facts{display:flex;flex-wrap:wrap;gap:10px 34px;margin:0;padding:14px 18px;background:var(--card);
border-radius:10px}
.facts dd{margin:0;font-size:19px;font-weight:600;font-variant-numeric:tabular-nums}
.facts dt{color:var(--dim);font-size:13px}
.expected{list-style:none;margin:16px 0 0;padding:0}
.expected li{padding:3px 0 3px 26px;position:relative}
.expected li:before{position:absolute;left:2px;font-weight:700}
.expected .yes:before{content:"\\2713";color:var(--done)}
.expected .no:before{content:"\\2717";color:var(--bad)}
.expected b{font-weight:500}.expected span{color:var(--dim)}
svg{display:block;margin:8px 0 2px;overflow:visible}
.grid{stroke:var(--line);stroke-width:1}
path+.grid,path~.grid{stroke:var(--ink);stroke-opacity:.09}
.axis{stroke:var(--dim);stroke-opacity:.6}
.tick{fill:var(--dim);font-size:11.5px;font-variant-numeric:tabular-nums}
.row{fill:var(--ink);font-size:12px}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;color:var(--dim);font-size:13px;padding-left:64px}
.legend i{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:6px;
vertical-align:-1px}
#find{font:inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:8px;
padding:6px 12px;width:min(320px,100%);margin:4px 0 12px}
table{border-collapse:collapse;width:100%;font-size:13.5px}
td{padding:3px 14px 3px 0;vertical-align:top;border-bottom:1px solid var(--line)}
td:nth-child(1){white-space:nowrap;color:var(--dim);font-variant-numeric:tabular-nums}
td:nth-child(2){white-space:nowrap}#lines td:nth-child(2){font-weight:600}
.changes{margin-top:12px}
.devices td:nth-child(2){color:var(--v3)}.fault td:nth-child(2){color:var(--bad)}
.ada td:nth-child(2){color:var(--v5)}.rollout td:nth-child(2){color:var(--v2)}
.controller td:nth-child(2){color:var(--dim)}
"""

SCRIPT: Final = """
document.getElementById("find").addEventListener("input",function(e){
var w=e.target.value.toLowerCase();
document.querySelectorAll("#lines tr").forEach(function(r){
r.style.display=r.textContent.toLowerCase().includes(w)?"":"none"})})
"""
