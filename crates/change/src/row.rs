//! One image of a row, every value in PostgreSQL's text form.

/// One value of a [`Row`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cell<'a> {
    /// SQL NULL.
    Null,
    /// An out-of-line (TOAST) value that the UPDATE did not touch, so the stream does not carry it;
    /// in a key-only old image, a column that does not belong to the replica identity.
    Unchanged,
    /// The value in the type's text output form.
    Text(&'a str),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Slot {
    Null,
    Unchanged,
    Text {
        start: u32,
        end: u32,
    },
    /// A text whose bytes were not all UTF-8.
    Escaped {
        start: u32,
        end: u32,
    },
}

/// One image of a row: a cell per column of its relation.
///
/// All texts live in one buffer, so that a row costs two allocations whatever its width.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Row {
    text: Box<str>,
    slots: Box<[Slot]>,
}

impl Row {
    /// The cell at `position`; `Unchanged` when the row has no such position.
    #[must_use]
    pub fn cell(&self, position: usize) -> Cell<'_> {
        self.slots.get(position).map_or(Cell::Unchanged, |slot| self.resolve(*slot))
    }

    /// The cells in column order.
    pub fn cells(&self) -> impl ExactSizeIterator<Item = Cell<'_>> {
        self.slots.iter().map(|slot| self.resolve(*slot))
    }

    /// How many cells the row has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the row has no cells.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of text the row holds.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Whether the text at `position` stands for bytes that are not UTF-8, see
    /// [`RowBuilder::push_bytes`]. PostgreSQL would read another value from such a text, so nothing
    /// that depends on the cell can be judged.
    #[must_use]
    pub fn is_escaped(&self, position: usize) -> bool {
        matches!(self.slots.get(position), Some(Slot::Escaped { .. }))
    }

    /// Whether any cell is [`Cell::Unchanged`].
    #[must_use]
    pub fn has_unchanged(&self) -> bool {
        self.slots.contains(&Slot::Unchanged)
    }

    /// The same row with every unchanged cell taken from `old`, where that has a text: a value that
    /// was left alone out of line is never NULL, so a NULL there stands for what is not known.
    #[must_use]
    pub fn filled_from(&self, old: &Self) -> Self {
        let mut builder = RowBuilder::with_capacity(self.len(), self.text_bytes());
        for (position, slot) in self.slots.iter().enumerate() {
            let is_filled = *slot == Slot::Unchanged && matches!(old.cell(position), Cell::Text(_));
            builder.copy(if is_filled { old } else { self }, position);
        }
        builder.finish()
    }

    /// The same row with only the cells at positions that are `kept`; the others are unchanged.
    #[must_use]
    pub fn keeping(&self, kept: impl Fn(usize) -> bool) -> Self {
        let mut builder = RowBuilder::with_capacity(self.len(), self.text_bytes());
        for position in 0..self.len() {
            if kept(position) {
                builder.copy(self, position);
            } else {
                builder.push(Cell::Unchanged);
            }
        }
        builder.finish()
    }

    fn resolve(&self, slot: Slot) -> Cell<'_> {
        match slot {
            Slot::Null => Cell::Null,
            Slot::Unchanged => Cell::Unchanged,
            Slot::Text { start, end } | Slot::Escaped { start, end } => {
                // Slots are made by `RowBuilder` from this very text, so the range is in bounds.
                Cell::Text(self.text.get(start as usize..end as usize).unwrap_or_default())
            }
        }
    }
}

impl<'a> FromIterator<Cell<'a>> for Row {
    fn from_iter<I: IntoIterator<Item = Cell<'a>>>(cells: I) -> Self {
        let mut builder = RowBuilder::default();
        for cell in cells {
            builder.push(cell);
        }
        builder.finish()
    }
}

/// Collects cells into a [`Row`].
#[derive(Debug, Default)]
pub struct RowBuilder {
    text: String,
    slots: Vec<Slot>,
}

impl RowBuilder {
    /// Reserves room for `n_cells` cells and `text_bytes` bytes of text.
    #[must_use]
    pub fn with_capacity(n_cells: usize, text_bytes: usize) -> Self {
        Self { text: String::with_capacity(text_bytes), slots: Vec::with_capacity(n_cells) }
    }

    /// Appends a cell.
    ///
    /// A row's text is bounded by PostgreSQL's 1 GiB limit for a row, so positions fit 32 bits;
    /// whatever would not fit is kept as [`Cell::Unchanged`], the value that is never shown.
    pub fn push(&mut self, cell: Cell<'_>) {
        let slot = match cell {
            Cell::Null => Slot::Null,
            Cell::Unchanged => Slot::Unchanged,
            Cell::Text(value) => {
                let start = self.text.len();
                self.text.push_str(value);
                self.range_from(start)
                    .map_or(Slot::Unchanged, |(start, end)| Slot::Text { start, end })
            }
        };
        self.slots.push(slot);
    }

    /// Appends a text that may hold bytes that are not UTF-8: before version 15 PostgreSQL sends a
    /// `"char"` as the byte it is. Such bytes become `\ooo`, in octal, as later versions send them.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        if let Ok(text) = str::from_utf8(bytes) {
            return self.push(Cell::Text(text));
        }
        let start = self.text.len();
        for chunk in bytes.utf8_chunks() {
            self.text.push_str(chunk.valid());
            for byte in chunk.invalid() {
                self.text.extend(['\\', octal(byte >> 6), octal(byte >> 3), octal(*byte)]);
            }
        }
        let slot = self.range_from(start);
        self.slots.push(slot.map_or(Slot::Unchanged, |(start, end)| Slot::Escaped { start, end }));
    }

    /// Appends the cell at `position` of another row, with what is known about it.
    fn copy(&mut self, from: &Row, position: usize) {
        self.push(from.cell(position));
        if let (true, Some(slot)) = (from.is_escaped(position), self.slots.last_mut())
            && let Slot::Text { start, end } = *slot
        {
            *slot = Slot::Escaped { start, end };
        }
    }

    /// Where the text from `start` on is; without a place it is dropped.
    fn range_from(&mut self, start: usize) -> Option<(u32, u32)> {
        let range = u32::try_from(start).ok().zip(u32::try_from(self.text.len()).ok());
        if range.is_none() {
            self.text.truncate(start);
        }
        range
    }

    /// The row.
    #[must_use]
    pub fn finish(self) -> Row {
        Row { text: self.text.into_boxed_str(), slots: self.slots.into_boxed_slice() }
    }
}

/// The lowest three bits as a digit.
fn octal(bits: u8) -> char {
    char::from(b'0' + (bits & 7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_was_pushed() {
        let cells = [Cell::Text("a"), Cell::Null, Cell::Unchanged, Cell::Text(""), Cell::Text("é")];
        let row: Row = cells.into_iter().collect();
        assert_eq!(row.cells().collect::<Vec<_>>(), cells);
        assert_eq!(row.cell(4), Cell::Text("é"));
        assert_eq!(row.cell(5), Cell::Unchanged);
        assert_eq!((row.len(), row.text_bytes(), row.has_unchanged()), (5, 3, true));
    }

    #[test]
    fn unchanged_cells_are_filled_from_the_old_row() {
        let old: Row = [Cell::Text("1"), Cell::Text("long"), Cell::Null].into_iter().collect();
        let new: Row = [Cell::Text("2"), Cell::Unchanged, Cell::Unchanged].into_iter().collect();
        let filled: Vec<_> = [Cell::Text("2"), Cell::Text("long"), Cell::Unchanged].into();
        assert_eq!(new.filled_from(&old).cells().collect::<Vec<_>>(), filled);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_escaped_and_marked() {
        let mut builder = RowBuilder::default();
        for bytes in [&b"\xc3"[..], b"a\xffb\x80", "é".as_bytes(), b""] {
            builder.push_bytes(bytes);
        }
        let row = builder.finish();
        let texts = [r"\303", r"a\377b\200", "é", ""].map(Cell::Text);
        let check = |row: &Row| {
            assert_eq!(row.cells().collect::<Vec<_>>(), texts);
            assert_eq!(
                [0, 1, 2, 3, 4].map(|at| row.is_escaped(at)),
                [true, true, false, false, false]
            );
        };
        check(&row);
        check(&row.keeping(|_| true));
        let nothing = row.keeping(|_| false);
        assert!(nothing.cells().all(|cell| cell == Cell::Unchanged));
        check(&nothing.filled_from(&row));
    }
}
