//! `FILE_CHECK`: what the number in a file says.

use super::machine::{Outcome, Share};
use lb_script::track_file::{Factor, NumberFile};

/// A check of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileProbe {
    /// The file.
    pub file: NumberFile,
    /// How its number counts.
    pub factor: Factor,
}

/// Reads the file, and judges its number (keepalived.conf(5), "Track files").
pub async fn check(probe: &FileProbe) -> Outcome {
    judge(probe.factor, probe.file.read().await)
}

fn judge(factor: Factor, number: i32) -> Outcome {
    match factor.apply(number) {
        None => Outcome::Failure(format!("it says {number}")),
        // keepalived's word for a fault is the lowest number that there is.
        Some(product) if product <= i64::from(i32::MIN) => {
            Outcome::Failure(format!("it says {number}, which amounts to {product}"))
        }
        Some(0) => Outcome::Success,
        Some(product) => {
            let added = i32::try_from(product).unwrap_or(i32::MAX);
            Outcome::Weighted(Share::Added(added))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_added_to_the_weight_or_fails() {
        let judged = |weight, reverse, number| judge(Factor { weight, reverse }, number);
        let added = |number| Outcome::Weighted(Share::Added(number));
        assert_eq!(judged(1, false, 0), Outcome::Success);
        assert_eq!(judged(1, false, 5), added(5));
        assert_eq!(judged(3, true, 5), added(-15));
        assert_eq!(judged(i32::MAX, false, 3), added(i32::MAX));
        assert_eq!(
            judged(1, false, i32::MIN),
            Outcome::Failure("it says -2147483648, which amounts to -2147483648".to_owned())
        );
        assert_eq!(
            judged(0, false, 5),
            Outcome::Failure("it says 5".to_owned())
        );
        assert_eq!(judged(0, true, 5), Outcome::Success);
    }
}
