//! The operators and functions of PostgreSQL that are evaluated in process, by oid.
//!
//! Oids below 10,000 are assigned by hand and never change (`transam.h`); a test compares these
//! tables with what `pg_operator` and `pg_proc` said (`tests/data/policies/operators.sql`).

use walcast_change::Collation;

use super::{
    expression::{Arithmetic, Function, JsonResult, Relation},
    shape::{JsonForm, Shape},
};
use crate::like::Case;
use crate::value::{Kind, insensitive_case};

/// What an operator does.
pub(super) enum Operation {
    Compare(Relation),
    Apply(Function),
}

/// What an operand must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operand {
    Scalar(Kind),
    AnyEnum,
    Json(JsonForm),
    Texts,
}

const RELATIONS: [Relation; 6] = [
    Relation::Equal,
    Relation::NotEqual,
    Relation::Less,
    Relation::LessOrEqual,
    Relation::Greater,
    Relation::GreaterOrEqual,
];

/// `=`, `<>`, `<`, `<=`, `>`, `>=` of two types.
const COMPARISONS: [(Operand, Operand, [u32; 6]); 24] = {
    use Kind::{
        Bool, Bpchar, Date, Float4, Float8, Int2, Int4, Int8, Name, Numeric, Oid, Text, Time,
        Timestamp, Uuid,
    };
    const fn of(left: Kind, right: Kind, oids: [u32; 6]) -> (Operand, Operand, [u32; 6]) {
        (Operand::Scalar(left), Operand::Scalar(right), oids)
    }
    [
        of(Bool, Bool, [91, 85, 58, 1694, 59, 1695]),
        of(Int2, Int2, [94, 519, 95, 522, 520, 524]),
        of(Int4, Int4, [96, 518, 97, 523, 521, 525]),
        of(Int8, Int8, [410, 411, 412, 414, 413, 415]),
        of(Int4, Int8, [15, 36, 37, 80, 76, 82]),
        of(Int8, Int4, [416, 417, 418, 420, 419, 430]),
        of(Int2, Int4, [532, 538, 534, 540, 536, 542]),
        of(Int4, Int2, [533, 539, 535, 541, 537, 543]),
        of(Int2, Int8, [1862, 1863, 1864, 1866, 1865, 1867]),
        of(Int8, Int2, [1868, 1869, 1870, 1872, 1871, 1873]),
        of(Oid, Oid, [607, 608, 609, 611, 610, 612]),
        of(Float4, Float4, [620, 621, 622, 624, 623, 625]),
        of(Float8, Float8, [670, 671, 672, 673, 674, 675]),
        of(Float4, Float8, [1120, 1121, 1122, 1124, 1123, 1125]),
        of(Float8, Float4, [1130, 1131, 1132, 1134, 1133, 1135]),
        of(Numeric, Numeric, [1752, 1753, 1754, 1755, 1756, 1757]),
        of(Text, Text, [98, 531, 664, 665, 666, 667]),
        of(Name, Text, [254, 259, 255, 256, 258, 257]),
        of(Text, Name, [260, 265, 261, 262, 264, 263]),
        of(Bpchar, Bpchar, [1054, 1057, 1058, 1059, 1060, 1061]),
        of(Uuid, Uuid, [2972, 2973, 2974, 2976, 2975, 2977]),
        of(Date, Date, [1093, 1094, 1095, 1096, 1097, 1098]),
        of(Time, Time, [1108, 1109, 1110, 1111, 1112, 1113]),
        of(Timestamp, Timestamp, [2060, 2061, 2062, 2063, 2064, 2065]),
    ]
};

/// The rest of them.
const MORE_COMPARISONS: [(Operand, Operand, [u32; 6]); 3] = [
    (
        Operand::Scalar(Kind::TimestampTz),
        Operand::Scalar(Kind::TimestampTz),
        [1320, 1321, 1322, 1323, 1324, 1325],
    ),
    (Operand::Scalar(Kind::Name), Operand::Scalar(Kind::Name), [93, 643, 660, 661, 662, 663]),
    (Operand::AnyEnum, Operand::AnyEnum, [3516, 3517, 3518, 3520, 3519, 3521]),
];

/// `+`, `-`, `*` of integers, with the kind of the result.
const ARITHMETIC: [(Kind, Kind, Kind, [u32; 3]); 9] = [
    (Kind::Int2, Kind::Int2, Kind::Int2, [550, 554, 526]),
    (Kind::Int4, Kind::Int4, Kind::Int4, [551, 555, 514]),
    (Kind::Int8, Kind::Int8, Kind::Int8, [684, 685, 686]),
    (Kind::Int2, Kind::Int4, Kind::Int4, [552, 556, 544]),
    (Kind::Int4, Kind::Int2, Kind::Int4, [553, 557, 545]),
    (Kind::Int8, Kind::Int4, Kind::Int8, [688, 689, 690]),
    (Kind::Int4, Kind::Int8, Kind::Int8, [692, 693, 694]),
    (Kind::Int8, Kind::Int2, Kind::Int8, [818, 819, 820]),
    (Kind::Int2, Kind::Int8, Kind::Int8, [822, 823, 824]),
];

/// `/` and `%` of integers.
const DIVISIONS: [(Kind, [u32; 2]); 3] =
    [(Kind::Int2, [527, 529]), (Kind::Int4, [528, 530]), (Kind::Int8, [687, 439])];

const JSON: Operand = Operand::Json(JsonForm::Json);
const JSONB: Operand = Operand::Json(JsonForm::Jsonb);
const TEXT: Operand = Operand::Scalar(Kind::Text);
const INT4: Operand = Operand::Scalar(Kind::Int4);

/// The functions PostgreSQL runs for what is evaluated in process beside the operators' own: those
/// of the known definitions of `auth.uid()` and the like.
pub(super) const FUNCTIONS_OF_DEFINITIONS: [u32; 3] = [3294, 3214, 67];

/// An operator by its oid, with what its operands must be.
pub(super) fn operator(oid: u32, collation: Collation) -> Option<(Operation, Vec<Operand>)> {
    for (left, right, oids) in COMPARISONS.iter().chain(&MORE_COMPARISONS) {
        if let Some(at) = oids.iter().position(|known| *known == oid) {
            return Some((Operation::Compare(*RELATIONS.get(at)?), vec![*left, *right]));
        }
    }
    for (left, right, result, oids) in &ARITHMETIC {
        let operators = [Arithmetic::Add, Arithmetic::Subtract, Arithmetic::Multiply];
        if let Some(at) = oids.iter().position(|known| *known == oid) {
            let function = Function::Arithmetic(*operators.get(at)?, *result);
            let operands = vec![Operand::Scalar(*left), Operand::Scalar(*right)];
            return Some((Operation::Apply(function), operands));
        }
    }
    for (kind, oids) in &DIVISIONS {
        let operators = [Arithmetic::Divide, Arithmetic::Remainder];
        if let Some(at) = oids.iter().position(|known| *known == oid) {
            let function = Function::Arithmetic(*operators.get(at)?, *kind);
            return Some((Operation::Apply(function), vec![Operand::Scalar(*kind); 2]));
        }
    }
    let like = |case, is_negated| Function::Like { pattern: None, case, is_negated };
    let (function, operands) = match oid {
        3240 => return Some((Operation::Compare(Relation::Equal), vec![JSONB, JSONB])),
        3241 => return Some((Operation::Compare(Relation::NotEqual), vec![JSONB, JSONB])),
        3211 => (Function::JsonMember(JsonResult::Json), vec![JSONB, TEXT]),
        3477 => (Function::JsonMember(JsonResult::Text), vec![JSONB, TEXT]),
        3962 => (Function::JsonMember(JsonResult::Json), vec![JSON, TEXT]),
        3963 => (Function::JsonMember(JsonResult::Text), vec![JSON, TEXT]),
        3212 => (Function::JsonElement(JsonResult::Json), vec![JSONB, INT4]),
        3481 => (Function::JsonElement(JsonResult::Text), vec![JSONB, INT4]),
        3964 => (Function::JsonElement(JsonResult::Json), vec![JSON, INT4]),
        3965 => (Function::JsonElement(JsonResult::Text), vec![JSON, INT4]),
        3213 => (Function::JsonPath(JsonResult::Json), vec![JSONB, Operand::Texts]),
        3206 => (Function::JsonPath(JsonResult::Text), vec![JSONB, Operand::Texts]),
        3966 => (Function::JsonPath(JsonResult::Json), vec![JSON, Operand::Texts]),
        3967 => (Function::JsonPath(JsonResult::Text), vec![JSON, Operand::Texts]),
        3246 => (Function::JsonContains, vec![JSONB, JSONB]),
        3250 => (Function::JsonContained, vec![JSONB, JSONB]),
        3247 => (Function::JsonHasKey, vec![JSONB, TEXT]),
        3248 => (Function::JsonHasAnyKey, vec![JSONB, Operand::Texts]),
        3249 => (Function::JsonHasAllKeys, vec![JSONB, Operand::Texts]),
        654 => (Function::Concatenate, vec![TEXT, TEXT]),
        1209 => (like(Case::Sensitive, false), vec![TEXT, TEXT]),
        1210 => (like(Case::Sensitive, true), vec![TEXT, TEXT]),
        1627 => (like(insensitive_case(collation), false), vec![TEXT, TEXT]),
        1628 => (like(insensitive_case(collation), true), vec![TEXT, TEXT]),
        484 => (Function::Negate(Kind::Int8), vec![Operand::Scalar(Kind::Int8)]),
        558 => (Function::Negate(Kind::Int4), vec![INT4]),
        559 => (Function::Negate(Kind::Int2), vec![Operand::Scalar(Kind::Int2)]),
        _ => return None,
    };
    Some((Operation::Apply(function), operands))
}

/// A function by its oid, with what its arguments must be.
pub(super) fn function(oid: u32, collation: Collation) -> Option<(Function, Vec<Operand>)> {
    use Kind::{Bool, Bpchar, Int2, Int4, Int8, Name, Text};
    let integer = |to| Function::Integer(to);
    let (function, argument) = match oid {
        313 => (integer(Int4), Int2),
        314 => (integer(Int2), Int4),
        714 => (integer(Int2), Int8),
        754 => (integer(Int8), Int2),
        480 => (integer(Int4), Int8),
        481 => (integer(Int8), Int4),
        1782 => (Function::IntegerToNumeric, Int2),
        1740 => (Function::IntegerToNumeric, Int4),
        1781 => (Function::IntegerToNumeric, Int8),
        235 => (Function::IntegerToFloat, Int2),
        316 => (Function::IntegerToFloat, Int4),
        482 => (Function::IntegerToFloat, Int8),
        2557 => (Function::IntegerToBool, Int4),
        2558 => (Function::BoolToInteger, Bool),
        2971 => (Function::BoolToText, Bool),
        1746 => (Function::NumericToFloat, Kind::Numeric),
        311 => (Function::Same, Kind::Float4),
        401 => (Function::Same, Bpchar),
        406 => (Function::Same, Name),
        870 => (Function::Lower(collation), Text),
        871 => (Function::Upper(collation), Text),
        1317 | 1369 | 1381 => (Function::Length, Text),
        1318 | 1367 | 1372 => (Function::Length, Bpchar),
        3556 => return Some((Function::JsonbToBool, vec![JSONB])),
        3450 => return Some((Function::JsonbToInteger(Int2), vec![JSONB])),
        3451 => return Some((Function::JsonbToInteger(Int4), vec![JSONB])),
        3452 => return Some((Function::JsonbToInteger(Int8), vec![JSONB])),
        3696 => return Some((Function::StartsWith, vec![TEXT, TEXT])),
        1258 => return Some((Function::Concatenate, vec![TEXT, TEXT])),
        4047 => return Some((Function::JsonHasKey, vec![JSONB, TEXT])),
        3217 => return Some((Function::JsonPath(JsonResult::Json), vec![JSONB, Operand::Texts])),
        3940 => return Some((Function::JsonPath(JsonResult::Text), vec![JSONB, Operand::Texts])),
        3951 => return Some((Function::JsonPath(JsonResult::Json), vec![JSON, Operand::Texts])),
        3953 => return Some((Function::JsonPath(JsonResult::Text), vec![JSON, Operand::Texts])),
        _ => return None,
    };
    Some((function, vec![Operand::Scalar(argument)]))
}

impl Operand {
    /// Whether values of this shape can stand here.
    pub(super) fn accepts(self, shape: &Shape) -> bool {
        match (self, shape) {
            (Self::Scalar(wanted), Shape::Scalar(kind)) => wanted == *kind,
            (Self::AnyEnum, Shape::Enum(_)) => true,
            (Self::Json(wanted), Shape::Json(form)) => wanted == *form,
            (Self::Texts, Shape::Array(kind, _)) => *kind == Kind::Text,
            _ => false,
        }
    }

    /// Whether the elements of an array of this shape can stand here.
    pub(super) fn accepts_elements(self, shape: &Shape) -> bool {
        match (self, shape) {
            (Self::Scalar(wanted), Shape::Array(kind, _)) => wanted == *kind,
            (Self::AnyEnum, Shape::Array(kind, _)) => *kind == Kind::Enum,
            _ => false,
        }
    }

    /// The kind by which values are compared: integers of any size alike.
    pub(super) fn compared_kind(self, other: Self) -> Option<Kind> {
        match (self, other) {
            (Self::Scalar(Kind::Int2 | Kind::Int4 | Kind::Int8), _) => Some(Kind::Int8),
            (Self::Scalar(Kind::Float4), _) => Some(Kind::Float8),
            (Self::Scalar(Kind::Name), Self::Scalar(Kind::Text)) => Some(Kind::Text),
            (Self::Scalar(kind), Self::Scalar(_)) => Some(kind),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("../../tests/data/policies/operators.txt");

    /// The type's name in `pg_type`.
    fn type_name(operand: Operand) -> String {
        match operand {
            Operand::Scalar(kind) => format!("{kind:?}").to_ascii_lowercase(),
            Operand::AnyEnum => "anyenum".to_owned(),
            Operand::Json(form) => format!("{form:?}").to_ascii_lowercase(),
            Operand::Texts => "_text".to_owned(),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the others stand behind no operator")]
    fn operator_name(operation: &Operation) -> &'static str {
        let function = match operation {
            Operation::Compare(relation) => {
                return match relation {
                    Relation::Equal => "=",
                    Relation::NotEqual => "<>",
                    Relation::Less => "<",
                    Relation::LessOrEqual => "<=",
                    Relation::Greater => ">",
                    Relation::GreaterOrEqual => ">=",
                };
            }
            Operation::Apply(function) => function,
        };
        let is_text = |result| result == JsonResult::Text;
        match function {
            Function::Arithmetic(Arithmetic::Add, _) => "+",
            Function::Arithmetic(Arithmetic::Subtract, _) | Function::Negate(_) => "-",
            Function::Arithmetic(Arithmetic::Multiply, _) => "*",
            Function::Arithmetic(Arithmetic::Divide, _) => "/",
            Function::Arithmetic(Arithmetic::Remainder, _) => "%",
            Function::JsonMember(result) | Function::JsonElement(result) if is_text(*result) => {
                "->>"
            }
            Function::JsonMember(_) | Function::JsonElement(_) => "->",
            Function::JsonPath(result) if is_text(*result) => "#>>",
            Function::JsonPath(_) => "#>",
            Function::JsonContains => "@>",
            Function::JsonContained => "<@",
            Function::JsonHasKey => "?",
            Function::JsonHasAnyKey => "?|",
            Function::JsonHasAllKeys => "?&",
            Function::Concatenate => "||",
            Function::Like { case: Case::Sensitive, is_negated: false, .. } => "~~",
            Function::Like { case: Case::Sensitive, is_negated: true, .. } => "!~~",
            Function::Like { is_negated: false, .. } => "~~*",
            Function::Like { is_negated: true, .. } => "!~~*",
            other => panic!("{other:?} is no operator"),
        }
    }

    /// Names PostgreSQL may have for what a function does to these operands.
    fn function_names(function: &Function, operands: &[Operand]) -> Vec<String> {
        let names: &[&str] = match (function, operands) {
            (Function::Integer(kind) | Function::JsonbToInteger(kind), _) => {
                return vec![format!("{kind:?}").to_ascii_lowercase()];
            }
            (Function::JsonPath(result), [Operand::Json(form), _]) => {
                let form = format!("{form:?}").to_ascii_lowercase();
                let text = if *result == JsonResult::Text { "_text" } else { "" };
                return vec![format!("{form}_extract_path{text}")];
            }
            (Function::IntegerToNumeric, _) => &["numeric"],
            (Function::IntegerToFloat | Function::NumericToFloat, _)
            | (Function::Same, [Operand::Scalar(Kind::Float4)]) => &["float8"],
            (Function::IntegerToBool | Function::JsonbToBool, _) => &["bool"],
            (Function::BoolToInteger, _) => &["int4"],
            (Function::BoolToText | Function::Same, _) => &["text"],
            (Function::Lower(_), _) => &["lower"],
            (Function::Upper(_), _) => &["upper"],
            (Function::Length, _) => &["length", "char_length", "character_length"],
            (Function::StartsWith, _) => &["starts_with"],
            (Function::Concatenate, _) => &["textcat"],
            (Function::JsonHasKey, _) => &["jsonb_exists"],
            other => panic!("{other:?} is no function"),
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn oids_mean_what_they_mean_in_postgresql() {
        let recorded: std::collections::BTreeSet<&str> = RECORDED.lines().collect();
        let mut n_known = 0;
        for oid in 0..10_000 {
            let types = |operands: &[Operand]| {
                operands.iter().map(|operand| type_name(*operand)).collect::<Vec<_>>().join(" ")
            };
            if let Some((operation, operands)) = operator(oid, Collation::Locale) {
                let name = operator_name(&operation);
                let line = format!("operator {oid} {name} {}", types(&operands));
                assert!(recorded.contains(&*line), "{line}");
                n_known += 1;
            }
            if let Some((function, operands)) = function(oid, Collation::Locale) {
                let is_recorded = function_names(&function, &operands).iter().any(|name| {
                    recorded.contains(&*format!("function {oid} {name} {}", types(&operands)))
                });
                assert!(is_recorded, "function {oid}");
                n_known += 1;
            }
        }
        assert!(n_known > 200, "{n_known}");
    }
}
