//! Counter-based random numbers: Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011). The same function is written in WGSL in `shaders/lib/threefry.wgsl`.
//!
//! A counter-based generator has no state. Number `n` of stream `key` is a pure function of both, so the draws of a row do not
//! depend on batch size, order, or interruptions of a run.

const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
const PARITY: u32 = 0x1BD1_1BDA;

/// Threefry-2x32-20: two 32-bit words from a 64-bit `key` and a 64-bit `counter`.
pub fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    let keys = [key[0], key[1], PARITY ^ key[0] ^ key[1]];
    let mut x = [counter[0].wrapping_add(keys[0]), counter[1].wrapping_add(keys[1])];
    for round in 0..20 {
        x[0] = x[0].wrapping_add(x[1]);
        x[1] = x[1].rotate_left(ROTATIONS[round % 8]) ^ x[0];
        if round % 4 == 3 {
            let group = round / 4 + 1;
            x[0] = x[0].wrapping_add(keys[group % 3]);
            x[1] = x[1].wrapping_add(keys[(group + 1) % 3]).wrapping_add(group as u32);
        }
    }
    x
}

/// A stream of random numbers: a key and the position of the next draw.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    next: u64,
}

impl Stream {
    /// The stream of `seed` for `purpose`. Different purposes have independent streams.
    pub fn new(seed: u64, purpose: u64) -> Self {
        let key = threefry2x32([seed as u32, (seed >> 32) as u32], [purpose as u32, (purpose >> 32) as u32]);
        Stream { key, next: 0 }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let [a, b] = threefry2x32(self.key, [self.next as u32, (self.next >> 32) as u32]);
        self.next += 1;
        (u64::from(a) << 32) | u64::from(b)
    }

    /// Uniform in [0, 1), 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `0..n`. `n` must be at least 1. The bias is below n / 2^64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.bits()) * n as u128) >> 64) as usize
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    /// Standard normal (Box-Muller). The second number of the pair is discarded, so that every draw takes two positions.
    pub fn normal(&mut self) -> f64 {
        let u = 1.0 - self.uniform();
        let v = self.uniform();
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Fisher-Yates shuffle in place.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (`kat_vectors`, threefry2x32 20).
    #[test]
    fn threefry_gives_the_known_answers() {
        assert_eq!(threefry2x32([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
        assert_eq!(threefry2x32([u32::MAX; 2], [u32::MAX; 2]), [0x1cb9_96fc, 0xbb00_2be7]);
        assert_eq!(threefry2x32([0x1319_8a2e, 0x0370_7344], [0x243f_6a88, 0x85a3_08d3]), [0xc492_3a9c, 0x483d_f7a0]);
    }

    #[test]
    fn normal_draws_have_mean_0_and_variance_1() {
        let mut stream = Stream::new(7, 1);
        let n = 40_000;
        let (mut mean, mut square) = (0.0, 0.0);
        for _ in 0..n {
            let x = stream.normal();
            mean += x / n as f64;
            square += x * x / n as f64;
        }
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((square - 1.0).abs() < 0.03, "{square}");
    }
}
