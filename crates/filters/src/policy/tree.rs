//! Reads `pg_node_tree`, the text in which PostgreSQL stores an expression.
//!
//! ```text
//! {OPEXPR :opno 98 :args ({VAR :varno 1 …} {CONST … :constvalue 5 [ 20 0 0 0 120 ]}) :location 9}
//! ```
//!
//! The grammar is that of `pg_strtok`: blanks, parentheses and braces separate words, a backslash
//! takes the next character literally. What a node's fields mean is the compiler's to know.

/// Longest text that is read: PostgreSQL is asked about a larger policy.
pub(super) const BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting of nodes and lists. Each operator is two levels, its node and its list.
const DEPTH_MAX: usize = 160;

/// A node: a name and fields, each with what follows it.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Node<'t> {
    pub(super) name: &'t str,
    pub(super) fields: Vec<(&'t str, Item<'t>)>,
}

/// What stands after the name of a field, or in a list.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Item<'t> {
    /// `<>`: NULL, or an empty list.
    Nothing,
    Word(&'t str),
    List(Vec<Self>),
    Node(Node<'t>),
    /// The bytes of a constant.
    Bytes(Vec<u8>),
}

/// Reads a tree; `None` when it is too large, or is no tree.
pub(super) fn read(text: &str) -> Option<Node<'_>> {
    if text.len() > BYTES_MAX {
        return None;
    }
    let mut reader = Reader { rest: text };
    match (reader.item(0)?, reader.token()) {
        (Item::Node(node), None) => Some(node),
        _ => None,
    }
}

impl<'t> Node<'t> {
    /// The field with this name.
    pub(super) fn field(&self, name: &str) -> Option<&Item<'t>> {
        self.fields.iter().find(|(known, _)| *known == name).map(|(_, item)| item)
    }

    /// The word in a field.
    pub(super) fn word(&self, name: &str) -> Option<&'t str> {
        match self.field(name)? {
            Item::Word(word) => Some(word),
            Item::Nothing | Item::List(_) | Item::Node(_) | Item::Bytes(_) => None,
        }
    }

    /// The number in a field.
    pub(super) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.word(name)?.parse().ok()
    }

    /// The truth value in a field.
    pub(super) fn truth(&self, name: &str) -> Option<bool> {
        match self.word(name)? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The node in a field.
    pub(super) fn node(&self, name: &str) -> Option<&Self> {
        match self.field(name)? {
            Item::Node(node) => Some(node),
            Item::Nothing | Item::Word(_) | Item::List(_) | Item::Bytes(_) => None,
        }
    }

    /// The nodes of the list in a field.
    pub(super) fn nodes(&self, name: &str) -> Option<Vec<&Self>> {
        match self.field(name)? {
            Item::Nothing => Some(Vec::new()),
            Item::List(items) => items.iter().map(Item::as_node).collect(),
            Item::Word(_) | Item::Node(_) | Item::Bytes(_) => None,
        }
    }

    /// All nodes directly below.
    pub(super) fn children(&self) -> Vec<&Self> {
        let mut children = Vec::new();
        for (_, item) in &self.fields {
            item.collect_nodes(&mut children);
        }
        children
    }
}

impl<'t> Item<'t> {
    fn as_node(&self) -> Option<&Node<'t>> {
        match self {
            Self::Node(node) => Some(node),
            Self::Nothing | Self::Word(_) | Self::List(_) | Self::Bytes(_) => None,
        }
    }

    fn collect_nodes<'n>(&'n self, nodes: &mut Vec<&'n Node<'t>>) {
        match self {
            Self::Node(node) => nodes.push(node),
            Self::List(items) => items.iter().for_each(|item| item.collect_nodes(nodes)),
            Self::Nothing | Self::Word(_) | Self::Bytes(_) => {}
        }
    }
}

struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn item(&mut self, depth: usize) -> Option<Item<'t>> {
        if depth > DEPTH_MAX {
            return None;
        }
        Some(match self.token()? {
            "{" => Item::Node(self.node(depth)?),
            "(" => Item::List(self.list(depth)?),
            "}" | ")" => return None,
            "<>" => Item::Nothing,
            word => Item::Word(word),
        })
    }

    /// The rest of a node. Every field has something: a column alias that looks like the name of a
    /// field would leave the one before it without, and is refused.
    fn node(&mut self, depth: usize) -> Option<Node<'t>> {
        let name = self.token()?;
        let mut fields: Vec<(&str, Item<'_>)> = Vec::new();
        loop {
            let token = self.token()?;
            if token == "}" {
                return Some(Node { name, fields });
            }
            let field = token.strip_prefix(':')?;
            if fields.iter().any(|(known, _)| *known == field) {
                return None;
            }
            let mut item = self.item(depth + 1)?;
            if matches!(item, Item::Word(word) if word.starts_with(':')) {
                return None;
            }
            // The length of a constant, then its bytes.
            if self.peek() == Some("[") {
                self.token();
                item = Item::Bytes(self.bytes()?);
            }
            fields.push((field, item));
        }
    }

    fn list(&mut self, depth: usize) -> Option<Vec<Item<'t>>> {
        let mut items = Vec::new();
        loop {
            if self.peek()? == ")" {
                self.token();
                return Some(items);
            }
            items.push(self.item(depth + 1)?);
        }
    }

    /// Bytes, which some compilers print as signed numbers.
    fn bytes(&mut self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let token = self.token()?;
            if token == "]" {
                return Some(bytes);
            }
            let number: i16 = token.parse().ok()?;
            if !(-128..=255).contains(&number) {
                return None;
            }
            let [low, _] = number.to_le_bytes();
            bytes.push(low);
        }
    }

    fn peek(&self) -> Option<&'t str> {
        Self { rest: self.rest }.token()
    }

    fn token(&mut self) -> Option<&'t str> {
        self.rest = self.rest.trim_start_matches([' ', '\n', '\t']);
        let first = self.rest.bytes().next()?;
        let length = if matches!(first, b'(' | b')' | b'{' | b'}') {
            1
        } else {
            let mut is_escaped = false;
            let end = self.rest.bytes().position(|byte| {
                if is_escaped {
                    is_escaped = false;
                    return false;
                }
                is_escaped = byte == b'\\';
                matches!(byte, b' ' | b'\n' | b'\t' | b'(' | b')' | b'{' | b'}')
            });
            end.unwrap_or(self.rest.len())
        };
        let (token, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::*;

    #[test]
    fn a_tree_is_read() {
        let text = r"{OPEXPR :opno 98 :retset false :args ({VAR :varattno 5} {CONST :constvalue 5 [ 20 0 -1 255 ] :name a\ b}) :cols (b 1) :x <>}";
        let node = read(text).unwrap();
        assert_eq!((node.name, node.number("opno")), ("OPEXPR", Some(98)));
        assert_eq!(node.truth("retset"), Some(false));
        let arguments = node.nodes("args").unwrap();
        assert_eq!(arguments[0].number("varattno"), Some(5));
        assert_eq!(arguments[1].field("constvalue"), Some(&Item::Bytes(vec![20, 0, 255, 255])));
        assert_eq!(arguments[1].word("name"), Some(r"a\ b"));
        assert_eq!(node.field("x"), Some(&Item::Nothing));
        assert_eq!(node.children().len(), 2);
        assert_eq!(node.nodes("missing"), None);
    }

    #[test]
    fn each_beginning_of_a_tree_is_refused() {
        let text = "{A :x ({B :y 1 [ 2 ]} 3) :z <>}";
        assert!(read(text).is_some());
        for end in 0..text.len() {
            assert_eq!(read(&text[..end]), None, "{end}");
        }
    }

    #[test]
    fn what_is_no_tree_or_too_deep_is_refused() {
        for text in [
            "",
            "a",
            "()",
            "{}",
            "{A} {B}",
            "{A x}",
            "{A :x}",
            "{A :x :y 1}",
            "{A :x 1 :x 2}",
            "{A :x )}",
            "{A :x 1 [ 256 ]}",
            "{A :x 1 [ y ]}",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let nested = |depth| format!("{{A :x {}1{}}}", "(".repeat(depth), ")".repeat(depth));
        assert!(read(&nested(100)).is_some());
        assert_eq!(read(&nested(100_000)), None);
        assert_eq!(read(&format!("{{A :x {}}}", "1".repeat(BYTES_MAX))), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in r"[{}():\\<> a1\[\]]{0,60}|\PC{0,60}") {
            if let Some(node) = read(&text) {
                prop_assert!(node.children().len() < text.len());
            }
        }
    }
}
