//! The searches for the scale of a sub-block, one value after the other: what the lanes are held to.

#![cfg_attr(not(test), allow(dead_code, reason = "the searches value by value are what tests compare with"))]

pub(super) mod lanes;

use super::{EPSILON, c_max, c_min, nearest_int};

/// How [`affine`] walks.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    /// The largest code.
    pub top: i32,
    /// Where the walk starts, in codes beyond `top`.
    pub from: f32,
    /// How far a step goes, in codes.
    pub by: f32,
    /// Steps beyond the first.
    pub count: i32,
    /// The error is the sum of magnitudes and not of squares.
    pub magnitudes: bool,
}

/// Codes `0..=top` with a scale and a minimum (`value = scale · code - minimum`) by a weighted least squares fit for
/// each of some roundings. Yields scale and minimum.
pub(super) fn affine(steps: Steps, x: &[f32], w: &[f32], codes: &mut [u8]) -> (f32, f32) {
    let top = steps.top as f32;
    let (mut min, mut max) = (x[0], x[0]);
    let mut sum_w = w[0];
    let mut sum_x = sum_w * x[0];
    for (x, w) in x.iter().zip(w).skip(1) {
        min = c_min(*x, min);
        max = c_max(*x, max);
        sum_w += w;
        sum_x += w * x;
    }
    if min > 0.0 {
        min = 0.0;
    }
    if max <= min {
        codes.fill(0);
        return (0.0, -min);
    }
    let round = |iscale: f32, min: f32, x: f32| nearest_int(iscale * (x - min)).min(steps.top).max(0);
    let error = |scale: f32, min: f32, codes: &[u8]| {
        let mut sum = 0.0;
        for ((x, w), code) in x.iter().zip(w).zip(codes) {
            let diff = scale * f32::from(*code) + min - x;
            sum += w * if steps.magnitudes { diff.abs() } else { diff * diff };
        }
        sum
    };
    let iscale = top / (max - min);
    let mut scale = 1.0 / iscale;
    for (code, x) in codes.iter_mut().zip(x) {
        *code = round(iscale, min, *x) as u8;
    }
    let mut best = error(scale, min, codes);
    let mut trial = [0; 32];
    let trial = &mut trial[..x.len()];
    for step in 0..=steps.count {
        let iscale = (steps.from + steps.by * step as f32 + top) / (max - min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
        for ((x, w), code) in x.iter().zip(w).zip(trial.iter_mut()) {
            let l = round(iscale, min, *x);
            *code = l as u8;
            let l = l as f32;
            sum_l += w * l;
            sum_l2 += w * l * l;
            sum_xl += w * l * x;
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant > 0.0 {
            let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
            let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
            if this_min > 0.0 {
                this_min = 0.0;
                this_scale = sum_xl / sum_l2;
            }
            let this = error(this_scale, this_min, trial);
            if this < best {
                codes.copy_from_slice(trial);
                (best, scale, min) = (this, this_scale, this_min);
            }
        }
    }
    (scale, -min)
}

/// The value of largest magnitude, the first of several, and that magnitude.
fn extreme(x: &[f32]) -> (f32, f32) {
    let (mut max, mut magnitude) = (0.0, 0.0);
    for x in x {
        if x.abs() > magnitude {
            (max, magnitude) = (*x, x.abs());
        }
    }
    (max, magnitude)
}

/// Codes `0..2 · half` around `half` with a scale (`value = scale · (code - half)`). Yields the scale.
pub(super) fn symmetric(half: i32, x: &[f32], w: &[f32], codes: &mut [u8]) -> f32 {
    let (max, magnitude) = extreme(x);
    if magnitude < EPSILON {
        codes.fill(0);
        return 0.0;
    }
    let round = |iscale: f32, x: f32| nearest_int(iscale * x).min(half - 1).max(-half);
    let sums = |iscale: f32| {
        let (mut sumlx, mut suml2) = (0.0, 0.0);
        for (x, w) in x.iter().zip(w) {
            let l = round(iscale, *x) as f32;
            sumlx += w * x * l;
            suml2 += w * l * l;
        }
        (sumlx, suml2)
    };
    let mut chosen = -(half as f32) / max;
    let (sumlx, suml2) = sums(chosen);
    let mut scale = if suml2 != 0.0 { sumlx / suml2 } else { 0.0 };
    let mut best = scale * sumlx;
    for step in (-9..=9).filter(|s| *s != 0) {
        let iscale = -(half as f32 + 0.1 * step as f32) / max;
        let (sumlx, suml2) = sums(iscale);
        if suml2 > 0.0 && sumlx * sumlx > best * suml2 {
            chosen = iscale;
            scale = sumlx / suml2;
            best = scale * sumlx;
        }
    }
    for (code, x) in codes.iter_mut().zip(x) {
        *code = (round(chosen, *x) + half) as u8;
    }
    scale
}

/// As [`symmetric`] with weights `x²`, but each code is moved in turn as long as that helps, in up to five rounds.
pub(super) fn refined(half: i32, x: &[f32], codes: &mut [u8]) -> f32 {
    let (max, magnitude) = extreme(x);
    if magnitude < EPSILON {
        codes.fill(0);
        return 0.0;
    }
    let round = |v: f32| nearest_int(v).min(half - 1).max(-half);
    let mut signed = [0; 16];
    let iscale = -(half as f32) / max;
    let (mut sumlx, mut suml2) = (0.0, 0.0);
    for (x, code) in x.iter().zip(&mut signed) {
        *code = round(iscale * x);
        let (w, l) = (x * x, *code as f32);
        sumlx += w * x * l;
        suml2 += w * l * l;
    }
    for _ in 0..5 {
        let mut changed = false;
        for (x, code) in x.iter().zip(&mut signed) {
            let (w, l) = (x * x, *code as f32);
            let mut slx = sumlx - w * x * l;
            if slx > 0.0 {
                let mut sl2 = suml2 - w * l * l;
                let new = round(x * sl2 / slx);
                if new != *code {
                    let l = new as f32;
                    slx += w * x * l;
                    sl2 += w * l * l;
                    if sl2 > 0.0 && slx * slx * suml2 > sumlx * sumlx * sl2 {
                        *code = new;
                        (sumlx, suml2) = (slx, sl2);
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    for (code, signed) in codes.iter_mut().zip(signed) {
        *code = (signed + half) as u8;
    }
    if suml2 > 0.0 { sumlx / suml2 } else { 0.0 }
}

/// Codes `0..=top` with a scale for values that should not be negative. A negative one wraps, as a byte does.
pub(super) fn positive(top: i32, x: &[f32], w: &[f32], codes: &mut [u8]) -> f32 {
    let mut max = 0.0;
    for x in x {
        max = c_max(max, *x);
    }
    if max < EPSILON {
        codes.fill(0);
        return 0.0;
    }
    let mut chosen = top as f32 / max;
    let scale = 1.0 / chosen;
    let mut best = 0.0;
    for (x, w) in x.iter().zip(w) {
        let diff = x - scale * f32::from(nearest_int(chosen * x) as u8);
        best += w * diff * diff;
    }
    for step in (-4..=4).filter(|s| *s != 0) {
        let iscale = (0.1 * step as f32 + top as f32) / max;
        let scale = 1.0 / iscale;
        let mut error = 0.0;
        for (x, w) in x.iter().zip(w) {
            let diff = x - scale * nearest_int(iscale * x).min(top) as f32;
            error += w * diff * diff;
        }
        if error < best {
            (best, chosen) = (error, iscale);
        }
    }
    let (mut sumlx, mut suml2) = (0.0, 0.0);
    for ((x, w), code) in x.iter().zip(w).zip(codes.iter_mut()) {
        let l = nearest_int(chosen * x).min(top);
        *code = l as u8;
        let l = l as f32;
        sumlx += w * x * l;
        suml2 += w * l * l;
    }
    for _ in 0..5 {
        let mut changed = false;
        for ((x, w), code) in x.iter().zip(w).zip(codes.iter_mut()) {
            let l = f32::from(*code);
            let mut slx = sumlx - w * x * l;
            let mut sl2 = suml2 - w * l * l;
            if slx > 0.0 && sl2 > 0.0 {
                let new = nearest_int(x * sl2 / slx).min(top);
                if new != i32::from(*code) {
                    let l = new as f32;
                    slx += w * x * l;
                    sl2 += w * l * l;
                    if slx * slx * suml2 > sumlx * sumlx * sl2 {
                        *code = new as u8;
                        (sumlx, suml2) = (slx, sl2);
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    if suml2 > 0.0 { sumlx / suml2 } else { 0.0 }
}
