// Ranking of the site's search: guides and quickstarts come before the API reference and the decision records.
var Scorer = {
  score: ([docname, , , , score]) => {
    if (docname.startsWith("reference/api/") || docname.startsWith("decisions/")) return score / 10;
    if (docname.startsWith("reference/reproductions") || docname === "gallery" || docname === "index") return score / 2;
    return score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
