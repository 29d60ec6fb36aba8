//! What the fuzz targets run; unit tests run it over the committed corpus.

use crate::parse;

/// Reads bytes as a filter: it is refused, or what is printed of it reads back as itself.
///
/// # Panics
///
/// The filter did not read back as itself.
pub fn parse_filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(conditions) = parse(text) else { return };
    let printed: Vec<String> = conditions.iter().map(ToString::to_string).collect();
    let printed = printed.join(",");
    // Quotes may make the printed filter longer than the bound.
    if let Ok(again) = parse(&printed) {
        assert_eq!(again, conditions, "{text:?} printed {printed:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_survived() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/filter");
        let mut n_inputs = 0;
        for entry in std::fs::read_dir(corpus).unwrap() {
            let input = std::fs::read(entry.unwrap().path()).unwrap();
            parse_filter(&input);
            for end in 0..input.len() {
                parse_filter(&input[..end]);
            }
            n_inputs += 1;
        }
        assert!(n_inputs > 20, "{n_inputs}");
    }
}
