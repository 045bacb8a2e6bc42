//! SentencePiece's model files: the messages of `sentencepiece_model.proto` that a GGUF file has a place for.
//!
//! A protobuf message is fields one after another: a varint of number and wire type, then a varint, 4 or 8 bytes, or a
//! length and bytes. Nothing is allocated by a length that the file does not hold.

/// Kinds of pieces, by their number in both SentencePiece's files and GGUF's `token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Type {
    /// A piece of text.
    Normal = 1,
    /// What stands for text that has no piece.
    Unknown = 2,
    /// Never made of text: `<s>`.
    Control = 3,
    /// Always found as it is.
    UserDefined = 4,
    /// A place without a token.
    Unused = 5,
    /// A byte: `<0x0A>`.
    Byte = 6,
}

impl Type {
    const ALL: [Self; 6] = [Self::Normal, Self::Unknown, Self::Control, Self::UserDefined, Self::Unused, Self::Byte];

    /// A number that is none is a piece of text, as protobuf takes it.
    fn by_number(number: u64) -> Self {
        Self::ALL.into_iter().find(|t| *t as u64 == number).unwrap_or(Self::Normal)
    }
}

/// A piece of a vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// With U+2581 for a blank.
    pub text: String,
    /// Log probability, or minus the rank of its merge.
    pub score: f32,
    /// What it stands for.
    pub kind: Type,
}

/// The algorithm of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// The likeliest pieces.
    Unigram,
    /// Merges, best score first.
    Bpe,
    /// Whole words.
    Word,
    /// Single characters.
    Char,
}

/// A model file.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// By id.
    pub pieces: Vec<Piece>,
    /// Of the trainer.
    pub algorithm: Algorithm,
    /// Whether a blank comes before the first word.
    pub add_dummy_prefix: bool,
    /// Whether runs of blanks become one.
    pub remove_extra_whitespaces: bool,
    /// The normalizer's double array, may be empty.
    pub charsmap: Vec<u8>,
}

/// The value of a field.
enum Wire<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
    /// Of no field that is asked for.
    Other,
}

/// What can be wrong with a message.
type Broken = &'static str;

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Result<u64, Broken> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or("it ends within a number")?;
            self.0 = rest;
            // The tenth byte has a single bit's worth; protobuf drops the others.
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("it has a number of more than ten bytes")
    }

    fn take(&mut self, n: u64) -> Result<&'a [u8], Broken> {
        let n = usize::try_from(n).map_err(|_| "it has a length beyond its end")?;
        let (bytes, rest) = self.0.split_at_checked(n).ok_or("it has a length beyond its end")?;
        self.0 = rest;
        Ok(bytes)
    }

    /// The next field: its number and value.
    fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>, Broken> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => self.take(8).map(|_| Wire::Other)?,
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.take(4)?.try_into().map_or(Wire::Other, Wire::Fixed32),
            _ => return Err("it has a field of an unknown kind"),
        };
        match key >> 3 {
            0 => Err("it has a field without a number"),
            number => Ok(Some((number, value))),
        }
    }
}

/// Reads a model file; an error says what is wrong with it.
pub fn read(bytes: &[u8]) -> Result<Model, String> {
    let mut model = Model {
        pieces: Vec::new(),
        algorithm: Algorithm::Unigram,
        add_dummy_prefix: true,
        remove_extra_whitespaces: true,
        charsmap: Vec::new(),
    };
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Wire::Bytes(bytes)) => {
                let index = model.pieces.len();
                model.pieces.push(piece(bytes).map_err(|what| format!("piece {index}: {what}"))?);
            }
            (2, Wire::Bytes(bytes)) => trainer(bytes, &mut model)?,
            (3, Wire::Bytes(bytes)) => normalizer(bytes, &mut model)?,
            _ => {}
        }
    }
    if model.pieces.is_empty() { Err("it has no pieces".into()) } else { Ok(model) }
}

fn piece(bytes: &[u8]) -> Result<Piece, Broken> {
    let mut piece = Piece { text: String::new(), score: 0.0, kind: Type::Normal };
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (1, Wire::Bytes(text)) => {
                piece.text = std::str::from_utf8(text).map_err(|_| "its text is not UTF-8")?.into();
            }
            (2, Wire::Fixed32(score)) => piece.score = f32::from_le_bytes(score),
            (3, Wire::Varint(kind)) => piece.kind = Type::by_number(kind),
            _ => {}
        }
    }
    if piece.text.is_empty() { Err("it has no text") } else { Ok(piece) }
}

fn trainer(bytes: &[u8], model: &mut Model) -> Result<(), Broken> {
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        if let (3, Wire::Varint(kind)) = field {
            model.algorithm = match kind {
                2 => Algorithm::Bpe,
                3 => Algorithm::Word,
                4 => Algorithm::Char,
                _ => Algorithm::Unigram,
            };
        }
    }
    Ok(())
}

fn normalizer(bytes: &[u8], model: &mut Model) -> Result<(), Broken> {
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        match field {
            (2, Wire::Bytes(bytes)) => model.charsmap = bytes.into(),
            (3, Wire::Varint(flag)) => model.add_dummy_prefix = flag != 0,
            (4, Wire::Varint(flag)) => model.remove_extra_whitespaces = flag != 0,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod testing {
    //! Model files from their parts.
    use super::*;

    fn varint(mut n: u64, out: &mut Vec<u8>) {
        while n > 0x7f {
            out.push((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    }

    pub(crate) fn number(field: u64, n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        varint(field << 3, &mut out);
        varint(n, &mut out);
        out
    }

    pub(crate) fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        varint(field << 3 | 2, &mut out);
        varint(value.len() as u64, &mut out);
        out.extend_from_slice(value);
        out
    }

    pub(crate) fn piece(text: &str, score: f32, kind: Type) -> Vec<u8> {
        let mut out = bytes(1, text.as_bytes());
        out.push(2 << 3 | 5);
        out.extend(score.to_le_bytes());
        out.extend(number(3, kind as u64));
        bytes(1, &out)
    }

    /// A file as SentencePiece would write `model`.
    pub(crate) fn write(model: &Model) -> Vec<u8> {
        let mut out: Vec<u8> = model.pieces.iter().flat_map(|p| piece(&p.text, p.score, p.kind)).collect();
        out.extend(bytes(2, &number(3, model.algorithm as u64 + 1)));
        let mut normalizer = bytes(1, b"identity");
        normalizer.extend(bytes(2, &model.charsmap));
        normalizer.extend(number(3, model.add_dummy_prefix.into()));
        normalizer.extend(number(4, model.remove_extra_whitespaces.into()));
        out.extend(bytes(3, &normalizer));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{bytes, number, piece};
    use super::*;
    use proptest::prelude::*;

    fn model() -> Model {
        let piece = |text: &str, score, kind| Piece { text: text.into(), score, kind };
        Model {
            pieces: vec![
                piece("<unk>", 0.0, Type::Unknown),
                piece("<s>", 0.0, Type::Control),
                piece("<0x0A>", 0.0, Type::Byte),
                piece("▁a", -1.5, Type::Normal),
                piece("[x]", 0.0, Type::UserDefined),
                piece("gone", 0.0, Type::Unused),
            ],
            algorithm: Algorithm::Bpe,
            add_dummy_prefix: false,
            remove_extra_whitespaces: true,
            charsmap: vec![1, 2, 0xff],
        }
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(read(&testing::write(&model())), Ok(model()));
    }

    #[test]
    fn what_a_file_leaves_out_has_protobufs_defaults() {
        let read = read(&bytes(1, &bytes(1, b"a"))).unwrap();
        assert_eq!(read.pieces, [Piece { text: "a".into(), score: 0.0, kind: Type::Normal }]);
        assert_eq!(
            (read.algorithm, read.add_dummy_prefix, read.remove_extra_whitespaces),
            (Algorithm::Unigram, true, true)
        );
    }

    #[test]
    fn fields_that_are_not_asked_for_are_passed_over() {
        let mut file = number(99, u64::MAX);
        file.extend(bytes(98, b"anything"));
        file.extend([97 << 3 & 0x7f | 1 | 0x80, 6, 1, 2, 3, 4, 5, 6, 7, 8]);
        file.extend(testing::write(&model()));
        assert_eq!(super::read(&file), Ok(model()));
    }

    #[test]
    fn broken_files_say_what_is_wrong() {
        fn check(file: &[u8], expected: &str) {
            assert_eq!(read(file), Err(expected.to_owned()));
        }
        check(b"", "it has no pieces");
        check(b"{\"not\": \"protobuf\"}", "it has a field of an unknown kind");
        check(&[0x0a], "it ends within a number");
        check(&[0x0a, 5, 1], "it has a length beyond its end");
        check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], "it has a length beyond its end");
        check(
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            "it has a number of more than ten bytes",
        );
        check(&[0x02, 0], "it has a field without a number");
        check(
            &[piece("a", 0.0, Type::Normal), bytes(1, &bytes(1, b"\xff"))].concat(),
            "piece 1: its text is not UTF-8",
        );
        check(&bytes(1, b""), "piece 0: it has no text");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }

        #[test]
        fn no_change_of_a_file_makes_it_panic(at in 0usize..200, byte: u8, cut in 0usize..200) {
            let mut file = testing::write(&model());
            let length = file.len();
            file[at % length] = byte;
            file.truncate(cut.max(1));
            if let Ok(model) = read(&file) {
                prop_assert!(model.pieces.len() <= file.len());
            }
        }
    }
}
