//! Latencies of pictures as browsers measure them.

/// What so many per cent of the latencies reach at most, in their own unit.
pub(crate) fn percentile(latencies: &[u64], per_cent: usize) -> Option<u64> {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let index = (sorted.len() * per_cent).div_ceil(100).checked_sub(1)?;
    sorted.get(index).copied()
}

/// Milliseconds as people read them. Without a stamp in the pictures there are none.
pub(crate) fn in_seconds(milliseconds: Option<u64>) -> String {
    milliseconds.map_or_else(
        || "-".to_owned(),
        |milliseconds| format!("{:.2} s", milliseconds as f64 / 1000.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_least_that_so_many_do_not_exceed() {
        let latencies: Vec<u64> = (1..=20).rev().collect();
        assert_eq!(percentile(&latencies, 50), Some(10));
        assert_eq!(percentile(&latencies, 95), Some(19));
        assert_eq!(percentile(&latencies, 100), Some(20));
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile(&[], 50), None);
    }
}
