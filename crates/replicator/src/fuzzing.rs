//! The bodies of the fuzz targets, which the tests run over the committed corpus, too.

use walcast_change::Lsn;

use crate::{
    Assembler, Taken,
    wire::{CopyFrame, Frame},
};

/// Decodes any bytes as one message of `pgoutput`, and as a stream of messages.
pub fn decode_pgoutput(bytes: &[u8]) {
    let _ = crate::decode(Lsn::ZERO, bytes);
    assemble(bytes);
}

/// Decodes any bytes as the frame of a message, and as the content of a CopyData message.
pub fn decode_copy_frame(bytes: &[u8]) {
    let _ = Frame::peek(bytes);
    if let Ok(CopyFrame::XLogData { lsn, message }) = crate::decode_copy_frame(bytes) {
        let _ = crate::decode(lsn, message);
    }
}

/// Assembles a sequence of messages, each after its length in two bytes.
fn assemble(bytes: &[u8]) {
    let mut assembler = Assembler::new(Taken::default());
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let Some((message, after)) = after.split_at_checked(u16::from_be_bytes(*length).into())
        else {
            return;
        };
        if assembler.push(Lsn::ZERO, message, &mut out).is_err() {
            return;
        }
        out.clear();
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::StreamItem;

    fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let file = |path: std::path::PathBuf| {
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
        };
        files.map(file).collect()
    }

    /// Runs a body over each file, each of its beginnings, and each file with one byte damaged.
    fn run(name: &str, body: fn(&[u8])) {
        let files = corpus(name);
        assert!(files.len() > 5, "the corpus {name} is there");
        for (_, bytes) in files {
            for length in 0..=bytes.len() {
                body(&bytes[..length]);
            }
            for place in 0..bytes.len() {
                for damage in [0x00, 0x7f, 0x80, 0xff] {
                    let mut damaged = bytes.clone();
                    damaged[place] = damage;
                    body(&damaged);
                }
            }
        }
    }

    #[test]
    fn the_corpus_of_messages_never_panics() {
        run("pgoutput", decode_pgoutput);
    }

    #[test]
    fn the_corpus_of_frames_never_panics() {
        run("copy_frame", decode_copy_frame);
    }

    #[test]
    fn the_messages_in_the_corpus_are_real_ones() {
        for (name, bytes) in corpus("pgoutput") {
            if name == "sequence" {
                continue;
            }
            let message = crate::decode(Lsn::ZERO, &bytes);
            assert!(message.is_ok(), "{name}: {message:?}");
            for length in 0..bytes.len() {
                assert!(crate::decode(Lsn::ZERO, &bytes[..length]).is_err(), "{name} at {length}");
            }
        }
    }

    #[test]
    fn the_sequence_in_the_corpus_gives_its_events() {
        let (_, bytes) =
            corpus("pgoutput").into_iter().find(|(name, _)| name == "sequence").unwrap();
        let mut assembler = Assembler::new(Taken::default());
        let mut out = Vec::new();
        let mut rest = &bytes[..];
        while let Some((length, after)) = rest.split_first_chunk::<2>() {
            let (message, after) = after.split_at(u16::from_be_bytes(*length).into());
            assembler.push(Lsn::ZERO, message, &mut out).unwrap();
            rest = after;
        }
        let n = |wanted: fn(&StreamItem) -> bool| out.iter().filter(|item| wanted(item)).count();
        assert_eq!(n(|item| matches!(item, StreamItem::Row(_))), 11);
        assert_eq!(n(|item| matches!(item, StreamItem::Commit { .. })), 2);
        assert_eq!(n(|item| matches!(item, StreamItem::Message(_))), 2);
    }
}
