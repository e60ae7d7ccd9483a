// People search in the words of a question: where the page of questions has them, it comes before pages that teach.
// The other numbers are Sphinx's own.
var Scorer = {
  score: ([docname, , , , score]) => score + (docname.endsWith("8_faq/faq") ? 12 : 0),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
