//! Unguessable names and passwords for one run.

use anyhow::Context;

/// Returns `n_bytes` random bytes, written as twice as many hexadecimal digits.
///
/// # Errors
///
/// Fails when the system's random source does.
pub fn random_hex(n_bytes: usize) -> anyhow::Result<String> {
    let mut bytes = vec![0_u8; n_bytes];
    aws_lc_rs::rand::fill(&mut bytes).context("the system's random source does not answer")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_values_of_the_wanted_length_differ() {
        let (one, other) = (random_hex(16).unwrap(), random_hex(16).unwrap());
        assert_eq!((one.len(), other.len()), (32, 32));
        assert_ne!(one, other);
    }
}
