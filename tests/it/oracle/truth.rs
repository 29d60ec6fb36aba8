//! What PostgreSQL shows: a role with its claims selects from the real table.

use anyhow::{Context, Result, bail};
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{audiences::Asking, values::quoted};

/// What PostgreSQL does when an audience looks at a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shown {
    /// It shows the row.
    Yes,
    /// It hides the row.
    No,
    /// It raises an error.
    Raised,
    /// It fails by a fault of its own: `current_user = current_user` is more than its planner copes
    /// with.
    Faulty,
}

/// Looks at every row by its key alone, so that an error is about one row.
pub const BY_ROW: &str =
    "create function oracle.by_row(target text, n_rows int4) returns text language plpgsql as $$
declare
  is_shown boolean;
  answer text := '';
begin
  for key in 1 .. n_rows loop
    begin
      execute format('select exists (select from %s where id = %s)', target, key) into is_shown;
      answer := answer || case when is_shown then 't' else 'f' end;
    exception when others then
      answer := answer || 'e';
    end;
  end loop;
  return answer;
end $$";

/// What one audience sees of one table.
#[derive(Debug)]
pub struct Sight {
    /// Per row, in order of the key, which counts from 1.
    pub rows: Vec<Shown>,
    /// Why PostgreSQL refused to show the table as a whole.
    pub error: Option<String>,
}

impl Sight {
    /// The positions of the rows it shows.
    pub fn visible(&self) -> Vec<usize> {
        let rows = self.rows.iter().enumerate();
        rows.filter(|(_, shown)| **shown == Shown::Yes).map(|(position, _)| position).collect()
    }
}

/// Lets an audience look at a table.
pub async fn look(session: &Client, asking: &Asking, table: &str, n_rows: usize) -> Result<Sight> {
    let begin = format!("begin; set local statement_timeout = '20s'; {}", asking.become_sql());
    let whole = format!("{begin}; select id from {table}; rollback");
    match session.simple_query(&whole).await {
        Ok(messages) => {
            let mut rows = vec![Shown::No; n_rows];
            for id in texts(&messages) {
                let position = id.parse::<usize>()?.checked_sub(1).context("keys count from 1")?;
                *rows.get_mut(position).context("a key that was not inserted")? = Shown::Yes;
            }
            Ok(Sight { rows, error: None })
        }
        Err(error) => {
            session.batch_execute("rollback").await?;
            let Some(error) = error.as_db_error() else { return Err(error.into()) };
            let reason = format!("{} {}", error.code().code(), error.message());
            let mut rows = by_row(session, &begin, table, n_rows).await?;
            if error.code().code().starts_with("XX") {
                rows.fill(Shown::Faulty);
            }
            Ok(Sight { rows, error: Some(reason) })
        }
    }
}

async fn by_row(session: &Client, begin: &str, table: &str, n_rows: usize) -> Result<Vec<Shown>> {
    // With the key's index, no other row's policy is evaluated.
    let sql = format!(
        "{begin}; set local enable_seqscan = off; select oracle.by_row({}, {n_rows}); rollback",
        quoted(table)
    );
    let messages = session.simple_query(&sql).await.context("look row by row")?;
    let answer = texts(&messages).into_iter().next().unwrap_or_default();
    let rows: Vec<Shown> = answer
        .chars()
        .map(|letter| match letter {
            't' => Shown::Yes,
            'f' => Shown::No,
            _ => Shown::Raised,
        })
        .collect();
    if rows.len() != n_rows {
        bail!("{} answers about {n_rows} rows", rows.len());
    }
    Ok(rows)
}

/// The first column.
pub fn texts(messages: &[SimpleQueryMessage]) -> Vec<&str> {
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    rows.collect()
}
