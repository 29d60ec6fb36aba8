//! Checking, matching and printing filters.

use proptest::prelude::{Strategy, prop, prop_assert_eq, prop_oneof, proptest};
use walcast_change::{Cell, Collation, ColumnSet, Row, TypeId, oid};
use walcast_filters::{Filter, MAX_IN_VALUES, Match, Operator, RawCondition, parse};

use crate::support::{
    CITEXT, EMAIL, HSTORE, INT4_ARRAY, MOOD, POSINT, TEXT_ARRAY, filter, row, table, types,
};

#[test]
fn a_filter_is_refused_in_postgresqls_words() {
    let table = table(&[
        ("n", oid::INT4),
        ("s", oid::TEXT),
        ("b", oid::BOOL),
        ("c", MOOD),
        ("j", oid::JSON),
        ("x", oid::XML),
        ("a", TEXT_ARRAY),
        ("p", oid::POINT),
    ]);
    let check = |text: &str, expected: &str| {
        let error = filter(text, &table).expect_err(text).to_string();
        assert_eq!(error.lines().next(), Some(expected), "{text}");
    };
    check("z=eq.1", "ERROR P0001 (raise_exception) invalid column for filter z");
    check(
        "n=eq.99999999999",
        "ERROR 22003 (numeric_value_out_of_range) value \"99999999999\" is out of range for type integer",
    );
    check(
        "n=in.(1,x)",
        "ERROR 22P02 (invalid_text_representation) invalid input syntax for type integer: \"x\"",
    );
    check(
        "b=is.True",
        "ERROR P0001 (raise_exception) invalid value for is filter: must be null, true, false, or unknown",
    );
    check(
        "s=is.unknown",
        "ERROR P0001 (raise_exception) is unknown filter requires a boolean column, got text",
    );
    check(
        "n=like.1%",
        "ERROR P0001 (raise_exception) operator like requires a text-compatible column type, got integer",
    );
    check(
        r"s=like.a\",
        "ERROR 22025 (invalid_escape_sequence) LIKE pattern must not end with escape character",
    );
    check("j=eq.1", "ERROR 42883 (undefined_function) operator does not exist: json = json");
    check("x=neq.1", "ERROR 42883 (undefined_function) operator does not exist: xml <> xml");
    check(
        "p=isdistinct.(1,2)",
        "ERROR 42883 (undefined_function) operator does not exist: point = point",
    );
    check("a=in.(b)", "ERROR 42883 (undefined_function) operator does not exist: text[] = text");
    // The first condition as written is the first to be refused.
    check("z=eq.1,n=eq.x", "ERROR P0001 (raise_exception) invalid column for filter z");
    let many = vec!["1"; MAX_IN_VALUES + 1].join(",");
    check(
        &format!("n=in.({many})"),
        "ERROR P0001 (raise_exception) too many values for `in` filter. Maximum 100",
    );
    let most = vec!["1"; MAX_IN_VALUES].join(",");
    assert!(filter(&format!("n=in.({most})"), &table).is_ok());
}

#[test]
fn a_column_that_may_not_be_selected_is_unknown() {
    let table = table(&[("id", oid::INT4), ("secret", oid::TEXT)]);
    let conditions = parse("secret=eq.x").expect("a filter");
    let selectable: ColumnSet = [0].into_iter().collect();
    let error = Filter::check(&conditions, &table, &selectable).expect_err("refused").to_string();
    assert_eq!(error, "ERROR P0001 (raise_exception) invalid column for filter secret");
    assert!(Filter::check(&conditions, &table, &ColumnSet::all(2)).is_ok());
}

#[test]
fn conditions_are_sorted_as_the_reference_stores_them() {
    let table = table(&[("n", oid::INT4), ("s", oid::TEXT)]);
    let filter = filter("s=eq.b,n=gt.1,s=eq.a,n=eq.5", &table).expect("a filter");
    let sorted: Vec<String> = filter.conditions().map(|condition| condition.to_string()).collect();
    assert_eq!(sorted, ["n=eq.5", "n=gt.1", "s=eq.a", "s=eq.b"]);
    assert_eq!(filter.columns().collect::<Vec<_>>(), ["n", "s"]);
    assert_eq!(filter, self::filter("n=eq.5,n=gt.1,s=eq.a,s=eq.b", &table).expect("a filter"));
}

#[test]
fn null_matches_only_what_asks_for_it() {
    let table = table(&[("n", oid::INT4), ("b", oid::BOOL), ("a", INT4_ARRAY)]);
    let check = |text: &str, expected: Match| {
        let filter = filter(text, &table).expect(text);
        assert_eq!(filter.matches(&table, &row(&[None, None, None])), expected, "{text}");
    };
    for text in [
        "n=is.null",
        "b=is.unknown",
        "b=not.is.true",
        "b=not.is.false",
        "n=isdistinct.1",
        "a=is.null",
        "n=not.in.()",
    ] {
        check(text, Match::Yes);
    }
    for text in [
        "n=eq.1",
        "n=not.eq.1",
        "n=neq.1",
        "n=in.(null)",
        "n=not.in.(1)",
        "n=in.()",
        "n=not.isdistinct.1",
        "n=not.is.null",
        "b=is.true",
        "a=eq.{1}",
        "a=not.eq.{1}",
    ] {
        check(text, Match::No);
    }
}

#[test]
fn a_cell_that_is_not_there_matches_nothing() {
    let table = table(&[("id", oid::INT4), ("s", oid::TEXT)]);
    let row: Row = [Cell::Text("1"), Cell::Unchanged].into_iter().collect();
    for text in ["s=eq.a", "s=not.eq.a", "s=is.null", "s=not.is.null", "s=isdistinct.a"] {
        assert_eq!(filter(text, &table).expect(text).matches(&table, &row), Match::No, "{text}");
    }
    let narrow = self::table(&[("id", oid::INT4)]);
    let filter = filter("s=not.is.null", &table).expect("a filter");
    assert_eq!(filter.matches(&narrow, &self::row(&[Some("1")])), Match::No);
}

#[test]
fn columns_are_found_by_name() {
    let checked = table(&[("id", oid::INT4), ("s", oid::TEXT)]);
    let filter = filter("s=eq.a", &checked).expect("a filter");
    let moved = table(&[("s", oid::TEXT), ("id", oid::INT4)]);
    assert_eq!(filter.matches(&moved, &row(&[Some("a"), Some("1")])), Match::Yes);
    let retyped = table(&[("s", oid::NAME), ("id", oid::INT4)]);
    assert_eq!(filter.matches(&retyped, &row(&[Some("a"), Some("1")])), Match::Undecided);
}

#[test]
fn a_certain_no_needs_no_answer_from_postgresql() {
    let table = table(&[("n", oid::INT4), ("j", oid::JSONB), ("s", oid::TEXT)]);
    let check = |text: &str, expected: Match| {
        let cells = row(&[Some("1"), Some("{}"), Some("b")]);
        assert_eq!(filter(text, &table).expect(text).matches(&table, &cells), expected, "{text}");
    };
    check("j=eq.{}", Match::Undecided);
    check("j=eq.{},n=eq.1", Match::Undecided);
    check("j=eq.{},n=eq.2", Match::No);
    check("j=is.null", Match::No);
    check("s=gt.a", Match::Undecided);
    check("", Match::Yes);
}

#[test]
fn collations_decide_what_can_be_compared_here() {
    let table = table(&[("c_s", oid::TEXT), ("l_s", oid::TEXT), ("nd_s", oid::TEXT)]);
    assert_eq!(table.columns[2].collation, Collation::NonDeterministic);
    let check = |text: &str, expected: Match| {
        let cells = row(&[Some("b"), Some("b"), Some("b")]);
        assert_eq!(filter(text, &table).expect(text).matches(&table, &cells), expected, "{text}");
    };
    check("c_s=gt.a", Match::Yes);
    check("l_s=gt.a", Match::Undecided);
    check("l_s=neq.B", Match::Yes);
    for text in ["nd_s=eq.b", "nd_s=gt.a", "nd_s=in.(b)", "nd_s=like.b", "nd_s=match.b"] {
        check(text, Match::Undecided);
    }
}

#[test]
fn enums_compare_by_the_order_of_their_labels() {
    let table = table(&[("c", MOOD)]);
    let check = |text: &str, label: &str, expected: Match| {
        let filter = filter(text, &table).expect(text);
        assert_eq!(filter.matches(&table, &row(&[Some(label)])), expected, "{text} {label}");
    };
    check("c=gt.sad", "ok", Match::Yes);
    check("c=lt.ok", "happy", Match::No);
    check("c=like.%a%", "happy", Match::Yes);
    check("c=match.^s", "sad", Match::Yes);
    check("c=in.(ok,sad)", "sad", Match::Yes);
    // A label that the catalogue did not have yet when the filter was checked.
    check("c=gt.sad", "furious", Match::Undecided);
    check("c=eq.sad", "furious", Match::No);
}

#[test]
fn postgresql_is_asked_about_operands_that_only_it_can_read() {
    let table = table(&[
        ("n", oid::INT4),
        ("t", oid::TIMESTAMPTZ),
        ("s", oid::TEXT),
        ("p", POSINT),
        ("c", MOOD),
        ("h", HSTORE),
        ("e", EMAIL),
    ]);
    let check = |text: &str, expected: &[&str]| {
        let filter = filter(text, &table).expect(text);
        let found: Vec<String> =
            filter.verifications().into_iter().map(|verification| verification.sql).collect();
        assert_eq!(found, expected, "{text}");
    };
    check("n=eq.1,s=like.a%,t=gt.2024-01-01", &[]);
    check(
        "t=gt.yesterday",
        &[
            r#"('yesterday'::"pg_catalog"."timestamptz" > 'yesterday'::"pg_catalog"."timestamptz") IS NULL"#,
        ],
    );
    check("p=gt.3", &[r#"('3'::"public"."posint") IS NULL"#]);
    check("s=match.a'", &[r#"(''::"pg_catalog"."text" ~ 'a'''::"pg_catalog"."text") IS NULL"#]);
    check("c=eq.sad", &[]);
    check("c=eq.new", &[r#"('new'::"public"."mood" = 'new'::"public"."mood") IS NULL"#]);
    check(
        "h=in.(\"a=>1\")",
        &[
            r#"(('{"a=>1"}'::"public"."hstore"[])[1] = ANY ('{"a=>1"}'::"public"."hstore"[])) IS NULL"#,
        ],
    );
    let doubtful = filter("p=gt.3,t=lt.now,c=eq.new", &table).expect("a filter");
    let in_order: Vec<_> =
        doubtful.verifications().into_iter().map(|verification| verification.column).collect();
    assert_eq!(in_order, ["p".into(), "t".into(), "c".into()]);
    let filter = filter("s=match.[", &table).expect("a filter");
    let refusal = filter.verifications()[0]
        .refusal("2201B", "invalid regular expression: brackets [] not balanced");
    assert_eq!(
        refusal.to_string(),
        "ERROR P0001 (raise_exception) invalid regular expression for match filter: invalid regular \
         expression: brackets [] not balanced"
    );
}

#[test]
fn a_filter_is_written_as_sql() {
    let table = table(&[
        ("n", oid::INT4),
        ("s", oid::VARCHAR),
        ("b", oid::BOOL),
        ("ch", oid::BPCHAR),
        ("by", oid::BYTEA),
        ("q\"", oid::TEXT),
        ("m", MOOD),
    ]);
    let check = |text: &str, expected: &str| {
        assert_eq!(filter(text, &table).expect(text).to_sql(&table), expected, "{text}");
    };
    check("", "true");
    check(
        "n=not.gte.5,s=like.a'\\%",
        r#"NOT ("n" >= '5'::"pg_catalog"."int4") AND ("s"::"pg_catalog"."text" LIKE E'a''\\%'::"pg_catalog"."text")"#,
    );
    // A user may have defined a cast from an enum to text (found by the oracle).
    check(
        "m=imatch.^a",
        r#"(pg_catalog.textin(pg_catalog.enum_out("m")) ~* '^a'::"pg_catalog"."text")"#,
    );
    check("b=not.is.true", r#"("b" IS NOT TRUE)"#);
    check("n=not.isdistinct.1", r#"("n" IS NOT DISTINCT FROM '1'::"pg_catalog"."int4")"#);
    check("n=in.(1,null)", r#"("n" = ANY ('{1,null}'::"pg_catalog"."int4"[]))"#);
    check("ch=eq.a", r#"("ch" = 'a'::"pg_catalog"."bpchar")"#);
    check("by=eq.\\x61", r#"(encode("by", 'hex') COLLATE "C" = '61'::"pg_catalog"."text")"#);
    check("q\"=match.x", r#"("q"""::"pg_catalog"."text" ~ 'x'::"pg_catalog"."text")"#);
}

#[test]
fn a_pattern_that_takes_too_long_is_left_to_postgresql() {
    let table = table(&[("s", oid::TEXT)]);
    let filter = filter(&format!("s=like.%{}b", "a".repeat(2_000)), &table).expect("a filter");
    let long = "a".repeat(10_000);
    assert_eq!(filter.matches(&table, &row(&[Some(&long)])), Match::Undecided);
    assert_eq!(filter.matches(&table, &row(&[Some("b")])), Match::No);
}

fn type_ids() -> impl Strategy<Value = TypeId> {
    let registry = types();
    let mut known: Vec<TypeId> =
        (1..30_000).map(TypeId).filter(|id| registry.find(*id).is_some()).collect();
    known.push(CITEXT);
    prop::sample::select(known)
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,12}",
        "[-+0-9.eEx_ ]{0,8}",
        "[0-9]{1,7}-[0-9]{1,2}-[0-9]{1,2}([T ][0-9]{1,2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]{1,7})?)?(Z|[+-][0-9:]{1,8})?)?( BC)?",
        "[a-c%_\\\\(){}\\[\\]|*+?^$.-]{0,12}",
        "\\{[a-c,\"\\\\{}]{0,10}\\}",
        prop::sample::select(vec![
            "null",
            "true",
            "sad",
            "NaN",
            "-Infinity",
            "infinity",
            "\\\\x61"
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn any_operand_and_any_cell_are_survived_and_not_turns_what_is_decided(
        (id, operator) in (type_ids(), prop::sample::select(Operator::ALL)),
        (value, cell) in (texts(), texts()),
    ) {
        let table = table(&[("c_v", id)]);
        let verdict = |is_negated| {
            let column = "c_v".to_owned();
            let condition = RawCondition { column, operator, value: value.clone(), is_negated };
            let filter = Filter::check(&[condition], &table, &ColumnSet::all(1)).ok()?;
            assert!(filter.to_sql(&table).contains("c_v"));
            assert!(filter.verifications().len() < 2);
            Some(filter.matches(&table, &row(&[Some(&cell)])))
        };
        let positive = verdict(false);
        let turned = positive.map(|verdict| match verdict {
            Match::Yes => Match::No,
            Match::No => Match::Yes,
            Match::Undecided => Match::Undecided,
        });
        // NULL among the values of `in` makes neither true, and so does a cell that counts as NULL.
        let has_null = operator == Operator::In && value.to_ascii_lowercase().contains("null");
        let is_null = [oid::NUMERIC, oid::FLOAT4, oid::FLOAT8].contains(&id)
            && ["NaN", "Infinity", "-Infinity"].contains(&cell.as_str());
        if !has_null && !is_null {
            prop_assert_eq!(verdict(true), turned);
        }
    }
}
