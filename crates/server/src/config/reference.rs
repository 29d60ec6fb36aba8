//! `docs/reference/config.md`, written from the table.

use std::fmt::Write;

use super::{
    environment::{WITHOUT_EFFECT, WITHOUT_EFFECT_PREFIXES},
    options::{ALL, Group, Kind, OptionSpec},
};

/// The page that lists every option, as Markdown.
#[must_use]
pub fn reference_page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         Each option can be given as a flag, as a variable, or as a key of a TOML file.\n\
         A flag wins over a variable, a variable over the file, the file over the default.\n\
         An empty variable counts as not set.\n\
         An option that is unknown, does not fit or contradicts another one stops the start with an error that names it.\n",
    );
    for group in Group::ALL {
        page.push_str(&format!("\n## {}\n", group.heading()));
        for option in ALL.iter().filter(|option| option.group == *group) {
            describe(&mut page, option);
        }
    }
    page.push_str(
        "\n## Variables without effect\n\n\
         These variables of the reference's container are accepted, so that it can be swapped, and change nothing.\n\n",
    );
    for name in WITHOUT_EFFECT {
        page.push_str(&format!("- `{name}`\n"));
    }
    for prefix in WITHOUT_EFFECT_PREFIXES {
        page.push_str(&format!("- `{prefix}*`\n"));
    }
    page
}

fn describe(page: &mut String, option: &OptionSpec) {
    page.push_str(&format!("\n### `{}`\n\n", option.name));
    page.push_str(&option.doc.replace(". ", ".\n"));
    page.push_str("\n\n");
    page.push_str(&format!("- Flag: `--{}`\n", option.name));
    let mut variables = format!("`{}`", option.own_variable());
    for variable in option.variables {
        // Writing to a string cannot fail.
        let _ = write!(variables, ", `{}`", variable.name);
    }
    page.push_str(&format!("- Variables: {variables}\n- Value: {}\n", value_doc(option.kind)));
    if let Some(default) = option.default {
        page.push_str(&format!("- Default: `{default}`\n"));
    }
}

fn value_doc(kind: Kind) -> String {
    match kind {
        Kind::Text => "text".to_owned(),
        Kind::Secret => "text, never shown".to_owned(),
        Kind::File => "the name of a file".to_owned(),
        Kind::Number { min, max } => format!("a whole number from {min} to {max}"),
        Kind::Bytes => "a size such as `512kB` or `64MiB`, or a number of bytes".to_owned(),
        Kind::Duration => "a duration such as `500ms`, `10s`, `5m` or `1h`".to_owned(),
        Kind::Boolean => "`true` or `false`".to_owned(),
        Kind::Choice(words) => {
            words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
        }
        Kind::List => "names separated by commas; in the file also a list".to_owned(),
        Kind::Json => "a JSON document, never shown; in the file also a table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_every_option_and_variable() {
        let page = reference_page();
        for option in ALL {
            assert!(page.contains(&format!("### `{}`", option.name)), "{}", option.name);
            for variable in option.variables {
                assert!(page.contains(variable.name), "{}", variable.name);
            }
        }
    }
}
