// Agreement of two lists of numbers. Null where a figure is undefined (fewer than two pairs, or one list is constant).

const mean = (list) => list.reduce((sum, v) => sum + v, 0) / list.length;

export function pearson(a, b) {
  if (a.length < 2) return null;
  const [ma, mb] = [mean(a), mean(b)];
  let [ab, aa, bb] = [0, 0, 0];
  a.forEach((v, i) => {
    ab += (v - ma) * (b[i] - mb);
    aa += (v - ma) ** 2;
    bb += (b[i] - mb) ** 2;
  });
  return aa > 0 && bb > 0 ? ab / Math.sqrt(aa * bb) : null;
}

/** Pearson of the ranks; ties share their mean rank. */
export const spearman = (a, b) => pearson(ranks(a), ranks(b));

export const rmse = (a, b) => (a.length ? Math.sqrt(mean(a.map((v, i) => (v - b[i]) ** 2))) : null);

function ranks(list) {
  const order = list.map((value, index) => ({ value, index })).sort((x, y) => x.value - y.value);
  const found = new Array(list.length);
  for (let from = 0; from < order.length; ) {
    let to = from;
    while (to < order.length && order[to].value === order[from].value) to += 1;
    for (let i = from; i < to; i += 1) found[order[i].index] = (from + to - 1) / 2;
    from = to;
  }
  return found;
}
