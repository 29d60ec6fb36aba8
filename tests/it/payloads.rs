//! What a subscriber receives, to the letter: the `data` object, its values, and its messages.

mod changes;
mod identities;
mod messages;
mod refusals;
mod roots;
mod size;
mod values;

use serde_json::Value;

/// The names in `columns`, in order.
fn column_names(data: &Value) -> Vec<&str> {
    let columns = data["columns"].as_array().into_iter().flatten();
    columns.filter_map(|column| column["name"].as_str()).collect()
}
