//! What the fuzz targets run; unit tests run it over the committed corpus.

mod policy;

use crate::parse;

pub use policy::{compile_policy, decide_policy};

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

    fn inputs(target: &str) -> Vec<Vec<u8>> {
        let corpus = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
        let entries = std::fs::read_dir(corpus).unwrap();
        let inputs: Vec<_> =
            entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        assert!(inputs.len() > 20, "{target}: {}", inputs.len());
        inputs
    }

    #[test]
    fn the_corpus_is_survived() {
        for input in inputs("filter") {
            for end in 0..=input.len() {
                parse_filter(&input[..end]);
            }
        }
    }

    #[test]
    fn the_corpora_of_policies_are_survived() {
        for (target, run) in [
            ("policy_tree", compile_policy as fn(&[u8])),
            ("policy_evaluate", decide_policy as fn(&[u8])),
        ] {
            for input in inputs(target) {
                // Every prefix would take minutes: a tree is 2 kB.
                for end in (0..input.len()).step_by(97).chain([input.len()]) {
                    run(&input[..end]);
                }
            }
        }
    }
}
