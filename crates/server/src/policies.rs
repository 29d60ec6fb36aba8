//! `walcast policies`: which policies are decided in process, and why PostgreSQL is asked about the
//! others.
//!
//! The catalogue is read and compiled as the server does it, so the answer is the server's.

use std::{
    collections::{BTreeSet, HashMap},
    io::{self, Write},
};

use anyhow::Context;
use tokio_postgres::Client;
use walcast_change::RoleId;
use walcast_filters::policy::{Policy, PolicyKind, PolicyRoles};

use crate::{
    catalogue::{Catalogue, KnownTable, read},
    config::Config,
    database,
};

/// The names of the columns, which are the first line.
const HEADER: [&str; 5] = ["TABLE", "POLICY", "KIND", "ROLES", "VERDICT"];

/// One policy that decides what SELECT shows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Listed {
    /// Schema and name of the table.
    table: String,
    policy: String,
    kind: PolicyKind,
    /// The names of the roles it concerns.
    roles: Vec<String>,
    verdict: Verdict,
}

/// Who decides.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Verdict {
    /// Nobody: row security of the table is off.
    Off,
    InProcess,
    /// PostgreSQL, which is asked for all members at once, if no other policy concerns the role.
    Members(String),
    /// PostgreSQL, for this reason.
    Asked(String),
}

/// Prints every policy of the tables that walcast would serve.
///
/// # Errors
///
/// Fails when the database cannot be reached or read, or nothing can be printed.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let mut client = database::connect(&config.database).await?;
    let policies = list(&mut client, &config.replication.options.publications).await?;
    let mut output = io::stdout().lock();
    output.write_all(render(&policies).as_bytes()).context("cannot write the list")?;
    output.flush().context("cannot write the list")
}

/// The policies of the tables of the publications and of the partitioned tables above them, by table
/// and name.
pub(crate) async fn list(
    client: &mut Client,
    publications: &[String],
) -> anyhow::Result<Vec<Listed>> {
    let (catalogue, _) =
        read::catalogue(client, publications, &Catalogue::default(), &BTreeSet::new()).await?;
    let names = role_names(client).await.context("read the names of roles")?;
    let mut policies: Vec<Listed> = catalogue
        .tables
        .values()
        .flat_map(|known| {
            known.row_security.policies.iter().map(|policy| Listed::of(known, policy, &names))
        })
        .collect();
    policies.sort_by(|a, b| (&a.table, &a.policy).cmp(&(&b.table, &b.policy)));
    Ok(policies)
}

async fn role_names(client: &Client) -> anyhow::Result<HashMap<RoleId, String>> {
    let rows =
        client.query("select oid, rolname::pg_catalog.text from pg_catalog.pg_roles", &[]).await?;
    rows.iter().map(|row| Ok((RoleId(row.try_get(0)?), row.try_get(1)?))).collect()
}

impl Listed {
    fn of(known: &KnownTable, policy: &Policy, names: &HashMap<RoleId, String>) -> Self {
        let roles = match &policy.applies_to {
            PolicyRoles::Public => vec!["public".to_owned()],
            PolicyRoles::Only(roles) => {
                let name =
                    |role: &RoleId| names.get(role).cloned().unwrap_or_else(|| role.0.to_string());
                roles.iter().map(name).collect()
            }
        };
        let verdict = match &policy.decision {
            _ if !known.row_security.is_enabled => Verdict::Off,
            Ok(_) => Verdict::InProcess,
            // Without an expression a policy is a constant.
            Err(_) if policy.using.is_none() => Verdict::InProcess,
            Err(reason) if policy.membership.is_some() => Verdict::Members(reason.to_string()),
            Err(reason) => Verdict::Asked(reason.to_string()),
        };
        Self {
            table: format!("{}.{}", known.table.schema, known.table.name),
            policy: policy.name.to_string(),
            kind: policy.kind,
            roles,
            verdict,
        }
    }

    /// Whether PostgreSQL is asked about it.
    pub(crate) fn is_asked(&self) -> bool {
        match self.verdict {
            Verdict::Off | Verdict::InProcess => false,
            Verdict::Members(_) | Verdict::Asked(_) => true,
        }
    }

    fn cells(&self) -> [String; 5] {
        let kind = match self.kind {
            PolicyKind::Permissive => "permissive",
            PolicyKind::Restrictive => "restrictive",
        };
        let verdict = match &self.verdict {
            Verdict::Off => "not used: row-level security of the table is off".to_owned(),
            Verdict::InProcess => "decided in process".to_owned(),
            Verdict::Members(reason) => format!(
                "PostgreSQL is asked: {reason}; once for all members where no other policy applies"
            ),
            Verdict::Asked(reason) => format!("PostgreSQL is asked: {reason}"),
        };
        [&self.table, &self.policy, kind, &self.roles.join(", "), &verdict].map(one_line)
    }
}

/// A name with no more lines than one, nor anything else that moves a terminal's cursor.
fn one_line(text: &str) -> String {
    text.chars().map(|next| if next.is_control() { '\u{fffd}' } else { next }).collect()
}

/// A line for each policy, its columns aligned.
fn render(policies: &[Listed]) -> String {
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(policies.iter().map(Listed::cells));
    let mut widths = [0; HEADER.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A policy, decided or not.
    pub(crate) fn listed(policy: &str, is_asked: bool) -> Listed {
        Listed {
            table: "public.notes".to_owned(),
            policy: policy.to_owned(),
            kind: PolicyKind::Permissive,
            roles: vec!["anon".to_owned(), "authenticated".to_owned()],
            verdict: if is_asked {
                Verdict::Asked("it has a subquery".to_owned())
            } else {
                Verdict::InProcess
            },
        }
    }

    #[test]
    fn columns_are_aligned_and_lines_end_with_the_verdict() {
        let short = Listed {
            table: "é.t".to_owned(),
            kind: PolicyKind::Restrictive,
            roles: vec!["public".to_owned()],
            verdict: Verdict::Off,
            ..listed("a", false)
        };
        let expected = "\
TABLE         POLICY  KIND         ROLES                VERDICT
public.notes  owner   permissive   anon, authenticated  decided in process
public.notes  member  permissive   anon, authenticated  PostgreSQL is asked: it has a subquery
é.t           a       restrictive  public               not used: row-level security of the table is off
";
        assert_eq!(render(&[listed("owner", false), listed("member", true), short]), expected);
    }

    #[test]
    fn a_policy_is_one_line_whatever_its_name() {
        assert_eq!(render(&[listed("a\nb\u{1b}[2J", true)]).lines().count(), 2);
        assert!(!render(&[listed("a\u{1b}", true)]).contains('\u{1b}'));
    }

    #[test]
    fn without_policies_there_is_the_header() {
        assert_eq!(render(&[]), "TABLE  POLICY  KIND  ROLES  VERDICT\n");
    }
}
