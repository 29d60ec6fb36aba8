//! Compares walcast's verdicts with what PostgreSQL shows.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use walcast_change::{Cell, ColumnSet, Row, Table};
use walcast_filters::{
    Filter, Match,
    claims::{Audience, Claims, Role},
    policy::{MEMBERS_MAX, Member, Necessary, Projection, RowRule, Verdict},
};
use walcast_server::{
    authz::{Authorizer, Question, composite_literal},
    catalogue::KnownTable,
    http::Health,
    telemetry::Metrics,
};

use super::{
    audiences::Asking,
    random::Random,
    report::Report,
    stage::Stage,
    truth::{self, Shown, Sight},
    world::{TablePlan, World},
};

const ALLOWED_HIDDEN: &str = "walcast allows a row that PostgreSQL hides";
const ALLOWED_RAISED: &str = "walcast allows a row about which PostgreSQL raises an error";
const DENIED_SHOWN: &str = "walcast denies a row that PostgreSQL shows";
const ANSWER_HIDDEN: &str = "the question's answer is yes where PostgreSQL hides the row";
const ANSWER_SHOWN: &str = "the question's answer is no where PostgreSQL shows the row";
const MEMBER_HIDDEN: &str = "the list of members has somebody to whom PostgreSQL hides the row";
const MEMBER_SHOWN: &str = "the list of members lacks somebody to whom PostgreSQL shows the row";
const PROJECTION: &str = "audiences with equal projections see different rows";
const NEVER: &str = "PostgreSQL shows a row although none can be visible";
const NECESSARY: &str = "PostgreSQL shows a row that lacks what is necessary";
const REORDERED: &str = "the verdict depends on the order of the columns";
const PARTIAL: &str =
    "a row of which a column is unknown gets a verdict that its value contradicts";

/// A wrong verdict, to be looked at more closely.
#[derive(Debug)]
pub struct Suspect {
    /// The table, as a position in [`World::tables`].
    pub table: usize,
    /// The audience, as a position in [`World::audiences`].
    pub asking: usize,
    /// What is wrong.
    pub what: &'static str,
    /// The case as it was found.
    pub case: String,
}

/// One audience's look at one table.
pub struct Look<'a> {
    world: &'a World,
    stage: &'a Stage,
    plan: &'a TablePlan,
    asking: &'a Asking,
    audience: Arc<Audience>,
    guard: Arc<KnownTable>,
    rule: RowRule,
    sight: Sight,
}

/// Compares all tables of a world.
pub async fn world(world: &World, stage: &Stage, report: &mut Report) -> Result<Vec<Suspect>> {
    let mut random = Random::new(world.seed ^ 2);
    let mut suspects = Vec::new();
    let mut questions = Vec::new();
    let mut looks = Vec::new();
    for (table, plan) in world.tables.iter().enumerate() {
        let guard = guard(stage, plan)?;
        report.tables += 1;
        for policy in &guard.row_security.policies {
            match &policy.decision {
                Ok(_) => report.policies_decided += 1,
                Err(reason) => {
                    report.policies_not_decided += 1;
                    report.not_decided(&reason.to_string());
                }
            }
        }
        let mut seen: HashMap<(String, Projection), (Sight, &Asking)> = HashMap::new();
        for position in &plan.looks {
            let Some(asking) = world.audiences.get(*position) else { continue };
            let look = look(world, stage, plan, asking).await?;
            let (verdicts, wrong) = compare_verdicts(&look, report);
            suspects.extend(wrong.into_iter().map(|(what, case)| Suspect {
                table,
                asking: *position,
                what,
                case,
            }));
            compare_partial(&look, &mut random, report);
            compare_reordered(&look, &mut random, report);
            compare_necessary(&look, report);
            let projection = look.rule.claims_read().project(&look.audience.claims);
            let key = (asking.role.clone(), projection);
            if let Some((other, twin)) = seen.get(&key) {
                report.pairs += 1;
                if other.visible() != look.sight.visible() {
                    report.find(PROJECTION, &look.signature(), || {
                        format!("{}the other's claims: {}\n", look.case(None), twin.claims)
                    });
                }
            } else {
                let sight = Sight { rows: look.sight.rows.clone(), error: None };
                seen.insert(key, (sight, asking));
            }
            let undecided: Vec<usize> = (0..verdicts.len())
                .filter(|position| verdicts[*position] == Verdict::Undecided)
                .collect();
            if let RowRule::Expression(expression) = &look.rule
                && !undecided.is_empty()
                && !reads_system_columns(&expression.sql)
            {
                let images = undecided.iter().map(|position| {
                    let row = &stage.rows[*position];
                    composite_literal(&look.guard.table, &look.guard.table, row).into()
                });
                questions.push(Question {
                    audience: Some(Arc::clone(&look.audience)),
                    guard: Arc::clone(&look.guard),
                    expression: Arc::clone(&expression.sql),
                    images: images.collect(),
                });
                looks.push((look, undecided));
            }
        }
    }
    if !world.has_other_answers() {
        compare_answers(stage, &questions, &looks, report).await;
    }
    Ok(suspects)
}

/// A row image has no place on a page and no transaction: questions about them raise.
fn reads_system_columns(sql: &str) -> bool {
    ["ctid", "xmin", "tableoid"].iter().any(|column| sql.contains(column))
}

fn guard(stage: &Stage, plan: &TablePlan) -> Result<Arc<KnownTable>> {
    let found = stage.catalogue.tables.values().find(|known| {
        let (schema, name) = (&known.table.schema, &known.table.name);
        let written = format!("{schema}.{name}");
        written == plan.name.replace('"', "")
    });
    found.map(Arc::clone).with_context(|| format!("{} is not in the catalogue", plan.name))
}

/// Lets an audience look at a table.
pub async fn look<'a>(
    world: &'a World,
    stage: &'a Stage,
    plan: &'a TablePlan,
    asking: &'a Asking,
) -> Result<Look<'a>> {
    let sight = truth::look(&stage.session, asking, &plan.name, stage.rows.len()).await?;
    let guard = guard(stage, plan)?;
    let role = Role::new(&asking.role);
    let rule = stage.catalogue.rule(&role, &guard);
    let audience = Arc::new(Audience { role, claims: Claims::new(&asking.claims) });
    Ok(Look { world, stage, plan, asking, audience, guard, rule, sight })
}

fn compare_verdicts(
    look: &Look<'_>,
    report: &mut Report,
) -> (Vec<Verdict>, Vec<(&'static str, String)>) {
    let is_decided = look.guard.row_security.policies.iter().all(|policy| policy.decision.is_ok());
    let mut wrong = Vec::new();
    let pairs = look.stage.rows.iter().zip(&look.sight.rows).enumerate();
    let verdicts = pairs.map(|(position, (row, shown))| {
        let verdict = look.rule.decide(&look.guard.table, row, &look.audience);
        report.verdict(verdict, *shown, is_decided);
        if let Some(what) = disagreement(verdict, *shown)
            && report.is_new(what, &look.signature())
        {
            wrong.push((what, look.case(Some(position))));
        }
        verdict
    });
    (verdicts.collect(), wrong)
}

fn disagreement(verdict: Verdict, shown: Shown) -> Option<&'static str> {
    match (verdict, shown) {
        (Verdict::Allow, Shown::No) => Some(ALLOWED_HIDDEN),
        (Verdict::Allow, Shown::Raised) => Some(ALLOWED_RAISED),
        (Verdict::Deny, Shown::Yes) => Some(DENIED_SHOWN),
        _ => None,
    }
}

/// A cell that the stream did not carry must not be taken for NULL or anything else.
fn compare_partial(look: &Look<'_>, random: &mut Random, report: &mut Report) {
    for _ in 0..3 {
        let position = random.below(look.stage.rows.len());
        let (Some(row), Some(shown)) =
            (look.stage.rows.get(position), look.sight.rows.get(position))
        else {
            return;
        };
        let unknown = random.between(1, row.len() - 1);
        let partial: Row = (0..row.len())
            .map(|at| if at == unknown { Cell::Unchanged } else { row.cell(at) })
            .collect();
        let table = &look.guard.table;
        if !look.rule.can_judge(table, table, &partial) {
            continue;
        }
        report.partial += 1;
        let verdict = look.rule.decide(table, &partial, &look.audience);
        if disagreement(verdict, *shown).is_some() {
            report.find(PARTIAL, &look.signature(), || look.case(Some(position)));
        }
    }
}

/// The leaf of a partitioned table may have the columns of its root in another order.
fn compare_reordered(look: &Look<'_>, random: &mut Random, report: &mut Report) {
    let table = &look.guard.table;
    let positions: Vec<usize> = (0..table.columns.len()).collect();
    let order = random.sample(&positions, positions.len());
    let columns = order.iter().filter_map(|position| table.columns.get(*position).cloned());
    let leaf = Table { columns: columns.collect(), ..table.clone() };
    let position = random.below(look.stage.rows.len());
    let Some(row) = look.stage.rows.get(position) else { return };
    let reordered: Row = order.iter().map(|position| row.cell(*position)).collect();
    let verdict = look.rule.decide(table, row, &look.audience);
    if look.rule.decide(&leaf, &reordered, &look.audience) != verdict {
        report.find(REORDERED, &look.signature(), || look.case(Some(position)));
    }
}

fn compare_necessary(look: &Look<'_>, report: &mut Report) {
    let table = &look.guard.table;
    let visible = || {
        let rows = look.stage.rows.iter().zip(&look.sight.rows).enumerate();
        rows.filter(|(_, (_, shown))| **shown == Shown::Yes)
    };
    match look.rule.necessary(&look.audience) {
        Necessary::Unknown => {}
        Necessary::Never => {
            report.necessities += look.stage.rows.len();
            if let Some((position, _)) = visible().next() {
                report.find(NEVER, &look.signature(), || look.case(Some(position)));
            }
        }
        Necessary::Equal(condition) => {
            report.necessities += look.stage.rows.len();
            let all: ColumnSet = (0..table.columns.len()).collect();
            let filter = Filter::check(std::slice::from_ref(&condition), table, &all);
            let lacks = |row: &Row| match &filter {
                Ok(filter) => filter.matches(table, row) == Match::No,
                // No row equals what is no value of the column's type.
                Err(_) => true,
            };
            if let Some((position, _)) = visible().find(|(_, (row, _))| lacks(row)) {
                report.find(NECESSARY, &look.signature(), || {
                    format!("{}necessary: {condition}\n", look.case(Some(position)))
                });
            }
        }
    }
}

async fn compare_answers(
    stage: &Stage,
    questions: &[Question],
    looks: &[(Look<'_>, Vec<usize>)],
    report: &mut Report,
) {
    let authorizer = Authorizer::new(
        stage.connect.clone(),
        2,
        Duration::from_secs(20),
        Arc::new(Health::new()),
        Arc::new(Metrics::new()),
    );
    let answers = authorizer.ask(questions).await;
    for ((look, positions), answers) in looks.iter().zip(answers) {
        for (position, answer) in positions.iter().zip(answers) {
            report.answers += 1;
            let what = match (answer, look.sight.rows[*position]) {
                (true, Shown::No) => ANSWER_HIDDEN,
                (false, Shown::Yes) => ANSWER_SHOWN,
                // A statement over a table can raise while it is planned, one over an image not.
                (is_yes, Shown::Raised) => {
                    report.answers_where_raised += 1;
                    report.answers_yes_where_raised += usize::from(is_yes);
                    continue;
                }
                (_, Shown::Faulty) | (true, Shown::Yes) | (false, Shown::No) => continue,
            };
            report.find(what, &look.signature(), || look.case(Some(*position)));
        }
        compare_members(&authorizer, look, positions, report).await;
    }
}

/// The question for members, where walcast would ask it.
async fn compare_members(
    authorizer: &Authorizer,
    look: &Look<'_>,
    positions: &[usize],
    report: &mut Report,
) {
    let RowRule::Expression(expression) = &look.rule else { return };
    let Some(membership) = expression.membership() else { return };
    let member = membership.member(&look.audience);
    if member == Member::Undecided {
        return;
    }
    let image = |position: &usize| {
        composite_literal(&look.guard.table, &look.guard.table, &look.stage.rows[*position]).into()
    };
    let nobody = Audience { role: look.audience.role.clone(), claims: Claims::new("{}") };
    let question = Question {
        audience: Some(Arc::new(nobody)),
        guard: Arc::clone(&look.guard),
        expression: Arc::clone(membership.expression()),
        images: positions.iter().map(image).collect(),
    };
    // Without a list each asker is asked about apart, which was compared already.
    let Some(lists) = authorizer.members(&question).await else { return };
    for (position, members) in positions.iter().zip(lists) {
        let Some(members) = members.filter(|members| members.len() <= MEMBERS_MAX) else {
            continue;
        };
        report.members += 1;
        let is_member = match &member {
            Member::Known(name) => members.iter().any(|known| **known == **name),
            Member::Nobody | Member::Undecided => false,
        };
        let what = match (is_member, look.sight.rows[*position]) {
            (true, Shown::No | Shown::Raised) => MEMBER_HIDDEN,
            (false, Shown::Yes) => MEMBER_SHOWN,
            (true, Shown::Yes) | (false, Shown::No | Shown::Raised) | (_, Shown::Faulty) => {
                continue;
            }
        };
        report.find(what, &look.signature(), || look.case(Some(*position)));
    }
}

impl Look<'_> {
    /// The case of the first wrong verdict.
    pub fn wrong(&self) -> Option<String> {
        let mut pairs = self.stage.rows.iter().zip(&self.sight.rows);
        let position = pairs.position(|(row, shown)| {
            let verdict = self.rule.decide(&self.guard.table, row, &self.audience);
            disagreement(verdict, *shown).is_some()
        })?;
        Some(self.case(Some(position)))
    }

    /// What cases with one cause have in common.
    fn signature(&self) -> String {
        let conditions = self.plan.policies.iter().map(|policy| policy.condition.sql.as_str());
        conditions.collect::<Vec<_>>().join("; ")
    }

    /// Everything needed to see it again.
    fn case(&self, position: Option<usize>) -> String {
        let mut case = format!(
            "replay: cargo xtask oracle --dev --seed {} --cases 1\n{}\n{};\n",
            self.world.seed,
            self.world.script(self.stage.database.name(), self.plan),
            self.asking.become_sql()
        );
        if let RowRule::Expression(expression) = &self.rule {
            case.push_str(&format!("-- walcast's expression: {}\n", expression.sql));
        }
        if let Some(error) = &self.sight.error {
            case.push_str(&format!("-- PostgreSQL raises for the table: {error}\n"));
        }
        let Some(position) = position else { return case };
        let row = &self.stage.rows[position];
        let verdict = self.rule.decide(&self.guard.table, row, &self.audience);
        case.push_str(&format!("{};\n-- as the stream has it:\n", self.world.rows[position]));
        for (column, cell) in self.guard.table.columns.iter().zip(row.cells()) {
            case.push_str(&format!("--   {} {}: {cell:?}\n", column.name, column.data_type.name));
        }
        case.push_str(&format!(
            "-- walcast: {verdict:?}; PostgreSQL shows: {:?}\n",
            self.sight.rows[position]
        ));
        case
    }
}
