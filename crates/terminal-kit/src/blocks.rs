//! Figures as block elements (Unicode, U+2580 to U+259F).

/// Eighths of a block, from below.
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Eighths of a block, from the left.
const PARTS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// The last `width` of `values`, oldest first, as one letter each. The greatest of all
/// values is a full block, 0 the lowest line.
#[must_use]
pub fn sparkline(values: &[f64], width: usize) -> String {
    let greatest = values.iter().copied().fold(0.0, f64::max);
    let shown = &values[values.len().saturating_sub(width)..];
    let level = |value: &f64| {
        let part = if greatest > 0.0 {
            value / greatest
        } else {
            0.0
        };
        let highest = LEVELS.len() - 1;
        LEVELS[((part * highest as f64).round() as usize).min(highest)]
    };
    shown.iter().map(level).collect()
}

/// A bar that is `part` of `width` letters long; `part` is from 0 to 1. What is there is
/// an eighth of a letter at least.
#[must_use]
pub fn bar(part: f64, width: usize) -> String {
    let eighths = (part.clamp(0.0, 1.0) * width as f64 * 8.0).round() as usize;
    let least = usize::from(part > 0.0 && width > 0);
    let eighths = eighths.max(least);
    let mut text: String = "█".repeat(eighths / 8);
    text.extend((eighths % 8).checked_sub(1).map(|rest| PARTS[rest]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_rises_with_its_values() {
        let rising: Vec<f64> = (0..8).map(f64::from).collect();
        assert_eq!(sparkline(&rising, 8), "▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&rising, 3), "▆▇█");
        assert_eq!(sparkline(&[0.0, 0.0], 5), "▁▁");
        assert_eq!(sparkline(&[1e9, 1.0], 5), "█▁");
        assert_eq!(sparkline(&[], 5), "");
        assert_eq!(sparkline(&rising, 0), "");
    }

    #[test]
    fn a_bar_is_as_long_as_its_part() {
        for (part, text) in [
            (0.0, ""),
            (0.5, "██"),
            (0.28125, "█▏"),
            (1.0, "████"),
            (7.0, "████"),
            (1e-9, "▏"),
            (f64::NAN, ""),
        ] {
            assert_eq!(bar(part, 4), text, "{part}");
        }
        assert_eq!(bar(1.0, 0), "");
    }
}
