//! What ties a SCRAM login to the TLS connection: a hash of the server's certificate.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use crate::pgoutput::{
    Problem,
    reader::{Malformed, Reader},
};

/// The `tls-server-end-point` value of RFC 5929: the certificate's hash, by the hash function of
/// its own signature, but SHA-256 where that is MD5 or SHA-1.
///
/// `None` when the signature names no such function (Ed25519, RSA-PSS) or the certificate cannot
/// be read; PostgreSQL has no common answer to those, so channel binding is not offered then.
pub(super) fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    let algorithm = signature_algorithm(certificate).ok()?;
    if algorithm == ECDSA_SHA1 {
        return Some(Sha256::digest(certificate).to_vec());
    }
    let (last, family) = algorithm.split_last()?;
    Some(match (family, last) {
        (RSA, 4 | 5 | 11) | (ECDSA_SHA2, 2) => Sha256::digest(certificate).to_vec(),
        (RSA, 12) | (ECDSA_SHA2, 3) => Sha384::digest(certificate).to_vec(),
        (RSA, 13) | (ECDSA_SHA2, 4) => Sha512::digest(certificate).to_vec(),
        (RSA, 14) | (ECDSA_SHA2, 1) => Sha224::digest(certificate).to_vec(),
        _ => return None,
    })
}

/// `Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OID, … }, … }`
fn signature_algorithm(certificate: &[u8]) -> Result<&[u8], Malformed> {
    const SEQUENCE: u8 = 0x30;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    let mut fields = Reader::new(element(&mut Reader::new(certificate), SEQUENCE)?);
    let _to_be_signed = element(&mut fields, SEQUENCE)?;
    let mut algorithm = Reader::new(element(&mut fields, SEQUENCE)?);
    element(&mut algorithm, OBJECT_IDENTIFIER)
}

/// The content of a DER element with the wanted tag.
fn element<'a>(reader: &mut Reader<'a>, wanted: u8) -> Result<&'a [u8], Malformed> {
    let tag = reader.u8()?;
    if tag != wanted {
        return Err(reader.malformed(Problem::UnexpectedMark(tag)));
    }
    let first = reader.u8()?;
    let length = match first {
        0..=0x7f => usize::from(first),
        0x81..=0x84 => {
            let mut length = 0;
            for _ in 0x80..first {
                length = length << 8 | usize::from(reader.u8()?);
            }
            length
        }
        _ => return Err(reader.malformed(Problem::UnexpectedMark(first))),
    };
    reader.bytes(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let element = |tag: u8, content: &[u8]| {
            let length = u8::try_from(content.len()).unwrap();
            [&[tag, 0x81, length], content].concat()
        };
        let identifier = element(6, algorithm);
        let fields = [element(0x30, b"to be signed"), element(0x30, &identifier)].concat();
        element(0x30, &fields)
    }

    #[test]
    fn the_signature_names_the_hash() {
        let check = |algorithm: &[u8], n_bytes: Option<usize>| {
            let binding = tls_server_end_point(&certificate(algorithm));
            assert_eq!(binding.map(|hash| hash.len()), n_bytes, "{algorithm:02x?}");
        };
        let rsa = |last| [&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01][..], &[last]].concat();
        check(&rsa(4), Some(32));
        check(&rsa(5), Some(32));
        check(&rsa(10), None);
        check(&rsa(11), Some(32));
        check(&rsa(12), Some(48));
        check(&rsa(13), Some(64));
        check(&rsa(14), Some(28));
        let ecdsa = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
        check(&[&ecdsa[..], &[1]].concat(), Some(32));
        check(&[&ecdsa[..], &[3, 3]].concat(), Some(48));
        check(&[0x2b, 0x65, 0x70], None);
    }

    #[test]
    fn a_damaged_certificate_gives_no_binding() {
        let whole = certificate(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b]);
        for length in 0..whole.len() {
            assert_eq!(tls_server_end_point(&whole[..length]), None);
        }
    }
}
