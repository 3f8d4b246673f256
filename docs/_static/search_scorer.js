// Sphinx reads this before a search: pages first, then the entries of the API.
// eslint-disable-next-line no-unused-vars
var Scorer = {
  score: ([page, , , , score, , kind]) =>
    score - (kind === "object" || page.startsWith("api/") || page.startsWith("changelog") ? 1000 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
