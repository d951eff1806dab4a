// Which of two responses is better: probabilities that A is, that B is, and that neither is, as `jurist pair` computes them.

/** @typedef {{ a: number, b: number, tie: number }} Odds */

/** A smaller difference of two scores, or of two probabilities, is none: both are shown with two decimals. */
export const TIE_MARGIN = 0.005;

/** The columns of a judge that reads both responses at once. */
export const BOTH = ["response_a", "response_b"];

/**
 * Of two scores drawn from their distributions.
 * @param {number[]} a over the scale's values
 * @param {number[]} b
 * @param {number[]} values the scale's
 * @returns {Odds}
 */
export function oddsOfScores(a, b, values) {
  const odds = { a: 0, b: 0, tie: 0 };
  a.forEach((p, i) =>
    b.forEach((q, k) => {
      odds[values[i] > values[k] ? "a" : values[i] < values[k] ? "b" : "tie"] += p * q;
    }),
  );
  return odds;
}

/**
 * Of one order: a score above the middle of the scale says that the response read first is better.
 * @param {number[]} distribution
 * @param {number[]} values
 * @returns {Odds} with the response read first as A
 */
function oddsOfOrder(distribution, values) {
  const middle = (Math.min(...values) + Math.max(...values)) / 2;
  const odds = { a: 0, b: 0, tie: 0 };
  distribution.forEach((p, i) => {
    odds[values[i] > middle ? "a" : values[i] < middle ? "b" : "tie"] += p;
  });
  return odds;
}

/**
 * The mean of both orders.
 * @param {number[]} given the distribution where A is read first
 * @param {number[]} swapped the one where B is
 * @param {number[]} values
 * @returns {Odds}
 */
export function oddsOfOrders(given, swapped, values) {
  const [first, second] = [oddsOfOrder(given, values), oddsOfOrder(swapped, values)];
  return { a: (first.a + second.b) / 2, b: (first.b + second.a) / 2, tie: (first.tie + second.tie) / 2 };
}

/**
 * The likeliest of the three; neither response where both are about as likely.
 * @param {Odds} odds
 * @returns {"A" | "B" | null}
 */
export function winnerOf({ a, b, tie }) {
  if (tie > Math.max(a, b) || Math.abs(a - b) < TIE_MARGIN) return null;
  return a > b ? "A" : "B";
}
