//! Which of several ways to treat a layer are worth considering.

/// Which points of bytes and error are corners of their lower convex hull: a plan made of these is never worse than one
/// made of others of the same size. What has no point is no corner.
pub fn corners(points: &[Option<(u64, f64)>]) -> Vec<bool> {
    let mut by_size: Vec<(u64, f64, usize)> =
        points.iter().enumerate().filter_map(|(i, p)| p.map(|(bytes, error)| (bytes, error, i))).collect();
    by_size.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut hull: Vec<(u64, f64, usize)> = Vec::new();
    for p in by_size {
        // What is larger must be better.
        if hull.last().is_some_and(|last| p.1 >= last.1) {
            continue;
        }
        while let [.., a, b] = hull[..] {
            let (ab, ap) = ((b.0 - a.0) as f64, (p.0 - a.0) as f64);
            if (b.1 - a.1) * ap < (p.1 - a.1) * ab {
                break;
            }
            hull.pop();
        }
        hull.push(p);
    }
    let mut out = vec![false; points.len()];
    for (.., i) in hull {
        out[i] = true;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn best_trade_offs_are_corners() {
        fn check(points: &[(u64, f64)], best: &str) {
            let points: Vec<_> = points.iter().map(|p| Some(*p)).collect();
            let got: String = corners(&points).into_iter().map(|b| if b { '◂' } else { '.' }).collect();
            assert_eq!(got, best);
        }
        // Smaller and better beats; what lies above the line between two others does not count.
        check(&[(10, 0.0), (8, 0.1), (6, 0.3), (4, 1.0)], "◂◂◂◂");
        check(&[(10, 0.0), (8, 0.6), (6, 0.3), (4, 1.0)], "◂.◂◂");
        check(&[(10, 0.0), (8, 0.4), (6, 0.3), (4, 1.0)], "◂.◂◂");
        check(&[(10, 0.0), (10, 0.1)], "◂.");
        check(&[(10, 0.2), (8, 0.2)], ".◂");
        check(&[(10, 0.2)], "◂");
        check(&[], "");
    }

    #[test]
    fn what_is_not_known_is_no_corner() {
        assert_eq!(corners(&[Some((10, 0.0)), None, Some((4, 1.0))]), [true, false, true]);
    }

    proptest! {
        #[test]
        fn no_point_lies_below_the_line_of_corners(
            points in prop::collection::vec((1u64..50, 0.0f64..1.0), 1..20),
            slope in 0.0f64..0.2,
        ) {
            // Whatever a byte is worth, the best point is a corner.
            let cost = |p: &(u64, f64)| p.1 + slope * p.0 as f64;
            let all: Vec<_> = points.iter().map(|p| Some(*p)).collect();
            let best = points.iter().map(cost).fold(f64::INFINITY, f64::min);
            let corners = corners(&all);
            let found = points.iter().zip(corners).filter(|(_, c)| *c).map(|(p, _)| cost(p));
            prop_assert!(found.fold(f64::INFINITY, f64::min) <= best + 1e-12);
        }
    }
}
