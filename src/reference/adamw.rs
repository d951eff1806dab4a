//! AdamW with decoupled weight decay (Loshchilov and Hutter 2019), as `torch.optim.AdamW` computes it.
//!
//! ```text
//! θ ← θ (1 - η λ)                                 decay, not through the moments
//! m ← β1 m + (1 - β1) g        m̂ = m / (1 - β1^t)
//! v ← β2 v + (1 - β2) g²       v̂ = v / (1 - β2^t)
//! θ ← θ - η m̂ / (√v̂ + ε)                         t counts from 1
//! ```

/// Hyperparameters; `learning_rate` is the one of this step, whatever the schedule.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub weight_decay: f64,
}

/// Running means of the gradient and of its square, one entry per parameter, zero at the start.
#[derive(Clone, Debug)]
pub struct Moments {
    pub m: Vec<f64>,
    pub v: Vec<f64>,
}

impl Moments {
    pub fn new(parameters: usize) -> Self {
        Moments { m: vec![0.0; parameters], v: vec![0.0; parameters] }
    }
}

impl AdamW {
    /// Step `t` (the first is 1) of one tensor, in place.
    pub fn step(&self, t: u32, parameters: &mut [f64], gradient: &[f64], moments: &mut Moments) {
        assert!(t >= 1 && parameters.len() == gradient.len() && gradient.len() == moments.m.len());
        let correction1 = 1.0 - self.beta1.powi(t as i32);
        let correction2 = 1.0 - self.beta2.powi(t as i32);
        for (i, &g) in gradient.iter().enumerate() {
            let (m, v) = (&mut moments.m[i], &mut moments.v[i]);
            *m = self.beta1 * *m + (1.0 - self.beta1) * g;
            *v = self.beta2 * *v + (1.0 - self.beta2) * g * g;
            let update = (*m / correction1) / ((*v / correction2).sqrt() + self.eps);
            parameters[i] = parameters[i] * (1.0 - self.learning_rate * self.weight_decay) - self.learning_rate * update;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::check::assert_close;

    const ADAMW: AdamW = AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.01 };

    /// The bias corrections make the first step η · sign(g), whatever the size of g.
    #[test]
    fn first_step_is_the_sign() {
        let (mut p, mut moments) = (vec![1.0, 1.0, 1.0], Moments::new(3));
        ADAMW.step(1, &mut p, &[5.0, -1e-3, 0.0], &mut moments);
        assert_close("p", &p, &[0.899, 1.099, 0.999], 1e-5);
    }

    /// Two steps written out: the weighted means of (1, 3), without a recursion.
    #[test]
    fn second_step_written_out() {
        let (mut p, mut moments) = (vec![2.0], Moments::new(1));
        ADAMW.step(1, &mut p, &[1.0], &mut moments);
        ADAMW.step(2, &mut p, &[3.0], &mut moments);
        let m_hat = (0.9 * 0.1 + 0.1 * 3.0) / (1.0 - 0.81);
        let v_hat: f64 = (0.99 * 0.01 + 0.01 * 9.0) / (1.0 - 0.9801);
        let after_one = 2.0 * 0.999 - 0.1 / (1.0 + 1e-8);
        assert_close("p", &p, &[after_one * 0.999 - 0.1 * m_hat / (v_hat.sqrt() + 1e-8)], 1e-14);
    }

    #[test]
    fn minimises_a_parabola() {
        let (mut p, mut moments) = (vec![3.0, -2.0], Moments::new(2));
        for t in 1..=400 {
            let gradient: Vec<f64> = p.iter().map(|p| 2.0 * (p - 1.0)).collect();
            AdamW { weight_decay: 0.0, ..ADAMW }.step(t, &mut p, &gradient, &mut moments);
        }
        assert_close("p", &p, &[1.0, 1.0], 1e-2);
    }
}
