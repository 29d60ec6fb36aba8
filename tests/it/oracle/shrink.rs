//! Looks for a smaller condition with the same wrong verdict.

use anyhow::Result;

use super::{
    compare::{Suspect, look},
    grammar::Expression,
    report::Report,
    stage::Stage,
    world::{PolicyPlan, TablePlan, World},
};

/// Prints each suspect with the smallest part of its policies that is judged wrongly by itself.
pub async fn print(
    world: &World,
    stage: &mut Stage,
    suspects: &[Suspect],
    report: &mut Report,
) -> Result<()> {
    for suspect in suspects {
        let smaller = smallest(world, stage, suspect).await?;
        report.print(suspect.what, smaller.as_deref().unwrap_or(&suspect.case));
    }
    Ok(())
}

async fn smallest(world: &World, stage: &mut Stage, suspect: &Suspect) -> Result<Option<String>> {
    let (Some(table), Some(asking)) =
        (world.tables.get(suspect.table), world.audiences.get(suspect.asking))
    else {
        return Ok(None);
    };
    let mut parts: Vec<String> =
        table.policies.iter().flat_map(|policy| policy.condition.smaller()).collect();
    parts.extend(table.policies.iter().map(|policy| policy.condition.sql.clone()));
    parts.sort_by_key(String::len);
    for sql in parts {
        let policy = PolicyPlan {
            head: format!("create policy p on {}", table.name),
            condition: Expression { sql, parts: Vec::new() },
            clause: "using",
        };
        let alone = TablePlan {
            name: table.name.clone(),
            create: table.create.clone(),
            alterations: table.alterations.clone(),
            policies: vec![policy.clone()],
            looks: Vec::new(),
        };
        // What is valid as a part may not be valid alone.
        if stage.replace_policies(world, table, &policy).await.is_err() {
            continue;
        }
        if let Some(case) = look(world, stage, &alone, asking).await?.wrong() {
            return Ok(Some(format!(
                "(made smaller; as a whole it is in the world of this seed)\n{case}"
            )));
        }
    }
    Ok(None)
}
