//! Lines that are repeated: `~SEQ` and `~LST` (keepalived.conf(5), "Sequence
//! blocks").

/// Lines that others expand to; more mean that parameters or sequences multiply
/// one another.
pub(crate) const MAX_LINES: usize = 100_000;

/// The rounds of a `~SEQ` or `~LST`.
pub(crate) struct Repetition<'t> {
    /// The parameters that are set in each round.
    pub names: Vec<&'t str>,
    /// Their values.
    pub rounds: Vec<Vec<String>>,
    /// Text that is repeated.
    pub rest: &'t str,
}

/// `(NAME[, START[, STEP]], END) rest`, or `x(…) rest` for hexadecimal numbers.
///
/// # Errors
/// The text is not what was expected, which is returned.
pub(crate) fn sequence(text: &str) -> Result<Repetition<'_>, &'static str> {
    const EXPECTED: &str = "`~SEQ(NAME, START, STEP, END)` and something to repeat";
    let (hexadecimal, text) = match text.strip_prefix('x') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (inside, rest) = text
        .strip_prefix('(')
        .and_then(|text| text.split_once(')'))
        .ok_or(EXPECTED)?;
    let mut words = inside.split(',').map(str::trim);
    let name = words
        .next()
        .filter(|name| !name.is_empty())
        .ok_or(EXPECTED)?;
    let numbers: Vec<i64> = words
        .map(whole_number)
        .collect::<Option<_>>()
        .ok_or(EXPECTED)?;
    let toward = |start: i64, end: i64| if end < start { -1 } else { 1 };
    let (start, step, end) = match numbers[..] {
        [end] => (end.signum(), toward(end.signum(), end), end),
        [start, end] => (start, toward(start, end), end),
        [start, step, end] => (start, step, end),
        _ => return Err(EXPECTED),
    };
    let comes_to_its_end = end
        .checked_sub(start)
        .and_then(|distance| distance.checked_div(step))
        .is_some_and(|rounds| rounds < MAX_LINES.cast_signed() as i64);
    if !comes_to_its_end {
        return Err("a `~SEQ` that comes to its end");
    }
    let rounds = std::iter::successors(Some(start), |value| value.checked_add(step))
        .take_while(|value| {
            if step > 0 {
                *value <= end
            } else {
                *value >= end
            }
        })
        .map(|value| {
            vec![if hexadecimal {
                format!("{value:x}")
            } else {
                value.to_string()
            }]
        })
        .collect();
    Ok(Repetition {
        names: vec![name],
        rounds,
        rest: rest.trim_start(),
    })
}

fn whole_number(word: &str) -> Option<i64> {
    match word.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// `(NAME, VALUE…) rest` or `({NAME, …}, {VALUE, …}…) rest`
///
/// # Errors
/// The text is not what was expected, which is returned.
pub(crate) fn list(text: &str) -> Result<Repetition<'_>, &'static str> {
    const EXPECTED: &str = "`~LST(NAME, VALUE, …)` and something to repeat";
    let (inside, rest) = text
        .strip_prefix('(')
        .and_then(|text| text.split_once(')'))
        .ok_or(EXPECTED)?;
    let mut groups: Vec<Vec<&str>> = Vec::new();
    let mut remaining = inside.trim();
    while !remaining.is_empty() {
        let (group, after) = match remaining.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or(EXPECTED)?,
            None => {
                let end = remaining.find(',').unwrap_or(remaining.len());
                remaining.split_at(end)
            }
        };
        groups.push(group.split(',').map(str::trim).collect());
        remaining = after.trim_start().trim_start_matches(',').trim_start();
    }
    let mut groups = groups.into_iter();
    let names = groups.next().ok_or(EXPECTED)?;
    let rounds: Vec<Vec<String>> = groups
        .map(|group| group.into_iter().map(str::to_owned).collect())
        .collect();
    if rounds.is_empty() || rounds.iter().any(|round| round.len() != names.len()) {
        return Err("a `~LST` with as many values in each round as it has names");
    }
    Ok(Repetition {
        names,
        rounds,
        rest: rest.trim_start(),
    })
}
