// Loops with AHEAD loads on their way: `for (var j = first; j < end; j += AHEAD * step)` reads the elements j, j + step, … of a
// turn before it uses the first. The last turn may reach beyond the end: it reads the last element there, and leaves it out. A
// loop of its own for the rest would wait for each of up to AHEAD - 1 loads alone. With AHEAD = 1, for CPU adapters, both
// functions fold away.

// The element that is read for j.
fn nearest(j: u32, end: u32) -> u32 {
    return select(min(j, end - 1u), j, AHEAD == 1u);
}

// Whether j counts.
fn is_before(j: u32, end: u32) -> bool {
    return AHEAD == 1u || j < end;
}
