//! A world: a database with tables that share their rows, each with policies of its own.

use super::{
    audiences::{Asking, NAMED, audiences},
    auth::Auth,
    grammar::{Column, Expression, Grammar},
    objects,
    random::Random,
    realistic,
    values::{KINDS, Kind, identifier, kind_of, quoted},
};

/// How much a world holds.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Tables, each with its own policies.
    pub tables: usize,
    /// Rows of every table.
    pub rows: usize,
    /// Audiences of the world.
    pub audiences: usize,
    /// Audiences that look at one table.
    pub looks: usize,
    /// Filters.
    pub filters: usize,
}

/// Everything about a world, from its seed alone.
#[derive(Debug)]
pub struct World {
    /// The seed.
    pub seed: u64,
    /// `alter database` statements without their first words.
    pub settings: Vec<&'static str>,
    /// Types, functions and the table `members`.
    pub objects: Vec<String>,
    /// How the functions of schema `auth` come about.
    pub auth: Auth,
    /// What comes last.
    pub traps: Vec<&'static str>,
    /// The columns that expressions may read; not the key `id`.
    pub columns: Vec<Column>,
    /// The table the others are copies of.
    pub base: String,
    /// One statement per row.
    pub rows: Vec<String>,
    /// The tables.
    pub tables: Vec<TablePlan>,
    /// Who asks.
    pub audiences: Vec<Asking>,
}

/// A table.
#[derive(Debug)]
pub struct TablePlan {
    /// Schema and name as SQL writes them.
    pub name: String,
    /// Creates it.
    pub create: String,
    /// The statements after the table was created, but for its policies.
    pub alterations: Vec<String>,
    /// Its policies.
    pub policies: Vec<PolicyPlan>,
    /// Positions in [`World::audiences`].
    pub looks: Vec<usize>,
}

/// A policy.
#[derive(Clone, Debug)]
pub struct PolicyPlan {
    /// Everything up to the condition.
    pub head: String,
    /// The condition.
    pub condition: Expression,
    /// `using` or `with check`.
    pub clause: &'static str,
}

impl PolicyPlan {
    /// The statement.
    pub fn sql(&self) -> String {
        format!("{} {} ({})", self.head, self.clause, self.condition.sql)
    }
}

/// Columns that every world has, for [`realistic::SETS`].
const USUAL: &[(&str, &str)] = &[
    ("user_id", "uuid"),
    ("org_id", "int8"),
    ("status", "text"),
    ("is_public", "bool"),
    ("meta", "jsonb"),
    ("tags", "texts"),
    ("created_at", "timestamptz"),
    ("price", "price"),
    ("email", "text"),
    ("visibility", "mood"),
];

const ODD_NAMES: &[&str] =
    &["select", "User Id", "current_user", "ünï", "a\"b", "uid", "value", "it's", "user", "role"];

impl World {
    /// The world of a seed. `has_icu` says whether there are collations that are not deterministic.
    pub fn new(seed: u64, size: Size, has_icu: bool) -> Self {
        let mut random = Random::new(seed);
        let random = &mut random;
        let mut settings = objects::settings(random);
        let auth = Auth::random(random);
        let mut objects: Vec<String> = objects::ALL.iter().map(|sql| (*sql).to_owned()).collect();
        let traps = objects::traps(random);
        // Where `public` comes first, what is named like PostgreSQL's own stands in for it.
        let has_path = settings.iter().any(|setting| setting.starts_with("search_path"));
        if !has_path && traps.iter().any(|trap| trap.contains("public.")) && random.chance(60) {
            settings.push("search_path = public, pg_catalog");
        }
        if has_icu {
            let sql = "create collation public.nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false)";
            objects.push(sql.to_owned());
        }
        let columns = columns(random);
        let base = base(&columns, has_icu);
        let rows = (1..=size.rows).map(|id| row(id, &columns, random)).collect();
        let audiences = audiences(random, size.audiences);
        let positions: Vec<usize> = (0..audiences.len()).collect();
        let tables = (0..size.tables)
            .map(|number| {
                let mut table = table(number, &columns, random);
                table.looks = random.sample(&positions, size.looks);
                table
            })
            .collect();
        Self { seed, settings, objects, auth, traps, columns, base, rows, tables, audiences }
    }

    /// Whether questions are known to differ from the table. They repeat a policy as it is printed, and
    /// what is printed may mean something else: operators and functions of a user's that come first on
    /// the search path, a cast that was made later. And where a built-in function may not be run, the
    /// planner can do without it for a table (`x = x` becomes `x is not null`).
    pub fn has_other_answers(&self) -> bool {
        let revokes = |trap: &&str| trap.contains("revoke execute on function pg_catalog");
        let shadows = |trap: &&str| trap.contains("public.");
        let casts = |trap: &&str| trap.contains("create cast");
        let has_path = self.settings.contains(&"search_path = public, pg_catalog");
        let differs = |trap: &&str| revokes(trap) || casts(trap) || (has_path && shadows(trap));
        self.traps.iter().any(differs)
    }

    /// Everything that was run to make one of its tables, to be read.
    pub fn script(&self, database: &str, table: &TablePlan) -> String {
        let mut script = Vec::new();
        script.extend(
            self.settings.iter().map(|setting| format!("alter database {database} set {setting}")),
        );
        script.extend(self.auth.statements().iter().map(|sql| (*sql).to_owned()));
        if self.auth == Auth::Migrated {
            script.push("-- walcast migrate --bootstrap".to_owned());
        }
        script.extend(self.objects.iter().filter(|sql| !sql.contains("oracle")).cloned());
        script.push(self.base.clone());
        script.extend(self.traps.iter().map(|sql| (*sql).to_owned()));
        script.push(table.create.clone());
        script.extend(table.alterations.iter().cloned());
        script.extend(table.policies.iter().map(PolicyPlan::sql));
        script.join(";\n") + ";"
    }
}

fn columns(random: &mut Random) -> Vec<Column> {
    let column = |name: &str, kind: &'static str| Column { name: identifier(name), kind };
    let mut columns: Vec<Column> = USUAL.iter().map(|(name, kind)| column(name, kind)).collect();
    let others: Vec<&Kind> = KINDS.iter().collect();
    let names = random.sample(ODD_NAMES, 3);
    let count = random.between(9, 13);
    for (number, kind) in random.sample(&others, count).into_iter().enumerate() {
        let plain = format!("c_{}", kind.key);
        columns.push(column(names.get(number).copied().unwrap_or(&plain), kind.key));
    }
    // A second one of some kinds, so that columns meet.
    for kind in random.sample(&["text", "int4", "bool", "jsonb", "timestamp", "varchar"], 2) {
        columns.push(column(&format!("d_{kind}"), kind));
    }
    random.sample(&columns, columns.len())
}

fn base(columns: &[Column], has_icu: bool) -> String {
    let columns = columns.iter().map(|Column { name, kind }| {
        let collate = if *kind == "ndtext" && has_icu { " collate public.nd" } else { "" };
        format!(", {name} {}{collate}", kind_of(kind).column_type)
    });
    format!("create table public.base (id int4 primary key{})", columns.collect::<String>())
}

fn row(id: usize, columns: &[Column], random: &mut Random) -> String {
    // Mostly full rows, and some that are nearly empty.
    let percent_null = *random.pick(&[0, 10, 10, 10, 30, 90]);
    let values = columns.iter().map(|column| {
        if random.chance(percent_null) {
            return ", null".to_owned();
        }
        let kind = kind_of(column.kind);
        let text = match column.name.as_str() {
            "\"email\"" if random.chance(80) => (*random.pick(super::values::EMAILS)).to_owned(),
            "\"status\"" if random.chance(70) => {
                (*random.pick(&["draft", "published", "admin"])).to_owned()
            }
            _ => kind.text(random),
        };
        let cast = if kind.key == "bpchar" { "char(5)" } else { kind.cast };
        format!(", {}::{cast}", quoted(&text))
    });
    format!("insert into public.base values ({id}{})", values.collect::<String>())
}

fn table(number: usize, columns: &[Column], random: &mut Random) -> TablePlan {
    let name = match random.below(10) {
        0 => format!("\"Odd Schema\".\"Table {number}\""),
        1 => format!("public.\"T'{number}\""),
        _ => format!("public.t{number}"),
    };
    let mut create = format!("create table {name} (like public.base including all)");
    let mut alterations = Vec::new();
    // The numbers of its columns are others than their positions.
    if random.chance(25) {
        create = format!(
            "create table {name} (gone text, like public.base including all); \
             alter table {name} drop column gone"
        );
    }
    if random.chance(96) {
        alterations.push(format!("alter table {name} enable row level security"));
    }
    if random.chance(25) {
        alterations.push(format!("alter table {name} force row level security"));
    }
    if random.chance(40) {
        alterations.push(format!("alter table {name} owner to oracle_owner"));
    }
    let policies = policies(&name, columns, random);
    TablePlan { name, create, alterations, policies, looks: Vec::new() }
}

fn policies(table: &str, columns: &[Column], random: &mut Random) -> Vec<PolicyPlan> {
    let head = |number: usize, kind: &str, command: &str, roles: &str| {
        format!("create policy p{number} on {table} as {kind} for {command} to {roles}")
    };
    if random.chance(30) {
        let set = *random.pick(realistic::SETS);
        let plans = set.iter().enumerate().map(|(number, (roles, kind, command, condition))| {
            let sql = condition.replace("$table", table);
            PolicyPlan {
                head: head(number, kind, command, roles),
                condition: Expression { sql, parts: Vec::new() },
                clause: if *command == "insert" { "with check" } else { "using" },
            }
        });
        return plans.collect();
    }
    let beyond_percent = *random.pick(&[0, 0, 0, 0, 20, 50]);
    let grammar = Grammar { table, columns, beyond_percent };
    let mut kinds = vec!["permissive"; *random.pick(&[1, 1, 1, 1, 2, 3])];
    kinds.extend(vec!["restrictive"; *random.pick(&[0, 0, 0, 1, 1, 2])]);
    let plans = kinds.into_iter().enumerate().map(|(number, kind)| {
        let command = *random.pick(&["select", "select", "all"]);
        let roles = if random.chance(65) {
            "public".to_owned()
        } else {
            let n_roles = random.between(1, 2);
            random.sample(NAMED, n_roles).join(", ")
        };
        let budget = *random.pick(&[0, 1, 1, 2, 2, 3, 4]);
        let condition = if random.chance(2) {
            grammar.large_condition(random)
        } else {
            grammar.condition(random, budget)
        };
        PolicyPlan { head: head(number, kind, command, &roles), condition, clause: "using" }
    });
    plans.collect()
}
