"""Records cases.json: what pgoutput sends for the conformance vectors, with the payloads they expect.

Usage: PGHOST=… record.py VECTORS_FOLDER > cases.json

Runs each case's SQL as the superuser supabase_admin, in a database of its own on a PostgreSQL server
with wal_level = logical, reads the changes with pgoutput and writes the tuples' texts, the catalogue's
types and the expected `data` objects side by side. Cases whose expectations need filters or row
security are left out.
"""

import json
import pathlib
import re
import struct
import subprocess
import sys

VECTORS = ""
# Why a case cannot be compared here.
LEFT_OUT = {
    "type_generated_identity_serial": "stored generated columns are not in the stream before 18",
    "filter_generated_and_identity_columns": "stored generated columns",
    "triggers_and_generated_rows": "stored generated columns",
    "type_database_output_styles": "the stream's session decides the output styles",
    "ddl_rename_table_between_commit_and_poll": "the catalogue of the reference is read later",
    "publication_all_tables": "the decoding plugin's rows were not recorded",
    "publication_column_list_ignored": "pgoutput applies column lists",
    "rls_pk_types_that_break_the_probe": "row security by probing is not reproduced",
}
KINDS = {"b": "base", "e": "enum", "d": "domain", "c": "composite", "r": "range", "m": "multirange"}


def psql(database, *commands, fail=True):
    """The output of commands of one session; the server is named by PGHOST and PGPORT."""
    arguments = ["psql", "-XqAt", "-U", "supabase_admin", "-d", database]
    for command in commands:
        arguments += ["-c", command]
    done = subprocess.run(arguments, capture_output=True, text=True)
    if fail and (done.returncode or "ERROR" in done.stderr):
        raise RuntimeError(done.stderr)
    return done.stdout


def plain(text):
    """Strings of one repeated character, short."""
    if isinstance(text, str) and len(text) > 500 and len(set(text)) == 1:
        return {"$repeat": [text[0], len(text)]}
    return text


class Message:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        (value,) = struct.unpack_from("!" + form, self.data, self.at)
        self.at += struct.calcsize("!" + form)
        return value

    def byte(self):
        return chr(self.number("B"))

    def text(self):
        end = self.data.index(0, self.at)
        value = self.data[self.at : end].decode()
        self.at = end + 1
        return value

    def row(self, identity=None):
        cells = []
        for position in range(self.number("H")):
            kind = self.byte()
            if kind == "t":
                length = self.number("I")
                cells.append(plain(self.data[self.at : self.at + length].decode()))
                self.at += length
            elif kind == "n" and (identity is None or identity[position]):
                cells.append(None)
            else:
                cells.append(False)
        return cells


def decode(lines):
    relations, events, timestamp = {}, [], 0
    for line in lines:
        message = Message(bytes.fromhex(line))
        kind = message.byte()
        if kind == "B":
            message.number("Q")
            timestamp = message.number("q") + 946684800000000
        elif kind == "R":
            oid = message.number("I")
            relations[oid] = {
                "oid": oid, "schema": message.text(), "name": message.text(),
                "identity": message.byte(),
                "columns": [
                    {"is_identity": message.number("B") == 1, "name": message.text(),
                     "type": message.number("I"), "modifier": message.number("i")}
                    for _ in range(message.number("H"))
                ],
            }
        elif kind in "IUD":
            relation = relations[message.number("I")]
            event = {"relation": relation, "kind": kind, "timestamp_us": timestamp}
            part = message.byte()
            if part in "KO":
                key = [column["is_identity"] for column in relation["columns"]]
                event["old_kind"] = part
                event["old"] = message.row(key if part == "K" else None)
                if kind == "U":
                    part = message.byte()
            if part == "N":
                event["new"] = message.row()
            if event.get("old_kind") == "O" and "new" in event:
                pairs = zip(event["new"], event["old"])
                event["new"] = [old if new is False else new for new, old in pairs]
            events.append(event)
    return events


def catalogue(database, relations):
    types, wanted = {}, {column["type"] for relation in relations for column in relation["columns"]}
    while wanted - types.keys():
        ids = ",".join(str(oid) for oid in wanted - types.keys())
        rows = psql(database, f"""
            select json_build_object('id', t.oid::int8, 'schema', n.nspname, 'name', t.typname,
              'delimiter', t.typdelim, 'typtype', t.typtype, 'base', t.typbasetype::int8,
              'element', case when t.typsubscript = 'array_subscript_handler'::regproc
                         then t.typelem::int8 end,
              'fields', (select json_agg(json_build_object('name', attname, 'type', atttypid::int8)
                         order by attnum) from pg_attribute
                         where attrelid = t.typrelid and attnum > 0 and not attisdropped))
            from pg_type t join pg_namespace n on n.oid = t.typnamespace where t.oid in ({ids})""")
        for line in rows.splitlines():
            row = json.loads(line)
            pg_type = {"id": row["id"], "schema": row["schema"], "name": row["name"]}
            if row["delimiter"] != ",":
                pg_type["delimiter"] = row["delimiter"]
            if row["element"]:
                pg_type["element"] = row["element"]
                wanted.add(row["element"])
            elif row["typtype"] == "d":
                pg_type["base"] = row["base"]
                wanted.add(row["base"])
            elif row["typtype"] == "c":
                pg_type["fields"] = row["fields"] or []
                wanted |= {field["type"] for field in pg_type["fields"]}
            else:
                pg_type["kind"] = KINDS.get(row["typtype"], "pseudo")
            types[row["id"]] = pg_type
    keys = {}
    for relation in relations:
        rows = psql(database, f"""
            select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid
            and a.attnum = any (i.indkey) where i.indrelid = {relation["oid"]} and i.indisprimary""")
        keys[relation["oid"]] = rows.splitlines()
    return sorted(types.values(), key=lambda pg_type: pg_type["id"]), keys


def size_of(database, wal2json, event):
    """The reference's measure: bytes of the plugin's text as jsonb, with the masks filled in."""
    if "…<" in wal2json:
        return None
    change = json.loads(wal2json)
    for entries in ("columns", "identity", "pk"):
        for entry in change.get(entries, []):
            if entry["typeoid"] == "<user type>":
                by_name = {column["name"]: column for column in event["relation"]["columns"]}
                if entry["name"] not in by_name:
                    return None
                oid = by_name[entry["name"]]["type"]
                wal2json = wal2json.replace('"typeoid":"<user type>"', f'"typeoid":{oid}', 1)
    literal = wal2json.replace("'", "''")
    time = f"to_timestamp({event['timestamp_us'] // 1000000}) + interval '{event['timestamp_us'] % 1000000} us'"
    return int(psql(database, f"""set timezone = 'UTC'; set standard_conforming_strings = on;
        select octet_length(replace('{literal}'::jsonb::text, '<timestamp>', ({time})::text))"""))


def record(case, number):
    database = f"case_{number}"
    psql("postgres", f"create database {database}")
    preamble = (pathlib.Path(VECTORS) / "preamble.sql").read_text()
    roles = [line for line in preamble.splitlines() if not line.startswith(("--", "create role"))]
    psql(database, "\n".join(roles), 'alter database %s set search_path = "$user", public, auth, extensions' % database)
    psql(database, "create schema if not exists realtime; grant usage on schema realtime to anon, authenticated", fail=False)
    setup = case["setup_sql"]
    psql(database, *([setup] if setup else ["select 1"]))
    psql(database, "create publication recording for all tables",
         "select pg_create_logical_replication_slot('recording', 'pgoutput')")
    try:
        psql(database, *case["changes_sql"], fail=False)
        # Styles of a replication connection; its time zone is the database's.
        lines = psql(database, "set datestyle = 'ISO'; set intervalstyle = 'postgres'; set extra_float_digits = 1; set bytea_output = 'hex'",
                     "select encode(data, 'hex') from pg_logical_slot_get_binary_changes('recording', null, null, 'proto_version', '1', 'publication_names', 'recording')").splitlines()
    finally:
        psql(database, "select pg_drop_replication_slot('recording')")
    changes = [row for row in case["wal2json"] if re.match(r'{"action":"[IUD]"', row)]
    names = [re.search(r'"schema":("(?:[^"\\]|\\.)*"),"table":("(?:[^"\\]|\\.)*")', row) for row in changes]
    tables = {(json.loads(name[1]), json.loads(name[2])) for name in names}
    events = [event for event in decode(lines)
              if (event["relation"]["schema"], event["relation"]["name"]) in tables]
    if not events or len(changes) != len(events):
        return None
    for event, change in zip(events, changes):
        event["size"] = size_of(database, change, event)
    relations = list({json.dumps(event["relation"]): event["relation"] for event in events}.values())
    types, keys = catalogue(database, relations)
    views = []
    for subscription in case["subscriptions"]:
        views += expectations(database, case, subscription, events)
    if not views:
        return None
    for event in events:
        event["relation"] = relations.index(event["relation"])
        if event["size"] is None:
            del event["size"]
    for relation in relations:
        relation["key"] = keys[relation["oid"]]
    return {"name": case["name"], "types": types, "relations": relations, "events": events, "views": views}


def expectations(database, case, subscription, events):
    """The subscription's payloads by event, if each event of its table gave one."""
    params = subscription.get("params") or {"schema": "*", "table": "*"}
    parsed = subscription["parsed"] or {}
    if parsed.get("filters") or subscription.get("subscribe_error"):
        return []
    if parsed.get("action_filter") not in (None, "*") or "params" not in subscription and "entity" not in subscription:
        return []
    payloads = [entry["payloads"] for entry in case["expected"] if entry["subscription"] == subscription["name"]]
    payloads = payloads[0] if payloads else []
    schema, table = params.get("schema", "public"), params.get("table", "*")
    if "entity" in subscription:
        schema, table = (subscription["entity"].split(".") if "." in subscription["entity"] else ("public", subscription["entity"]))
        table = table.strip('"')
    mine = [number for number, event in enumerate(events)
            if schema in ("*", event["relation"]["schema"]) and table in ("*", event["relation"]["name"])]
    if len(mine) != len(payloads):
        return []
    views = []
    for number, payload in zip(mine, payloads):
        event = events[number]
        words = {"I": "INSERT", "U": "UPDATE", "D": "DELETE"}
        if words[event["kind"]] != payload["type"] or event["relation"]["name"] != payload["table"]:
            return []
        oid = event["relation"]["oid"]
        row = psql(database, f"""select json_build_object(
            'selectable', (select coalesce(json_agg(attname), '[]') from pg_attribute where attrelid = {oid}
              and attnum > 0 and not attisdropped
              and has_column_privilege('{subscription["role"]}', {oid}, attnum, 'select')),
            'row_security', (select relrowsecurity from pg_class where oid = {oid}))""")
        row = json.loads(row)
        views.append({
            "event": number, "selectable": row["selectable"],
            "selected": parsed.get("selected_columns"),
            "key_only": row["row_security"] and event["kind"] == "D",
            "max_record_bytes": case["settings"]["poll_max_record_bytes"],
            "expected": payload,
        })
    return views


def main():
    global VECTORS
    (VECTORS,) = sys.argv[1:]
    for line in (pathlib.Path(VECTORS) / "preamble.sql").read_text().splitlines():
        if line.startswith("create role"):
            psql("postgres", line, fail=False)
    cases = []
    for number, path in enumerate(sorted((pathlib.Path(VECTORS) / "cases").glob("*.json"))):
        case = json.loads(path.read_text(), parse_float=str)
        if case["name"] in LEFT_OUT:
            continue
        # Numbers keep their digits: the payloads are embedded as the text they are.
        raw = json.loads(path.read_text(), parse_float=Digits, parse_int=Digits)
        case["expected"] = raw["expected"]
        try:
            recorded = record(case, number)
        except Exception as error:  # Each reason is printed, so that no case is lost in silence.
            print(case["name"], "failed:", error, file=sys.stderr)
            continue
        if recorded is None:
            print(case["name"], "left out: needs filters or row security", file=sys.stderr)
            continue
        cases.append(recorded)
    print("[")
    print(",\n".join(dump(case) for case in cases))
    print("]")


class Digits(str):
    """A number as it was written."""


def dump(value):
    if isinstance(value, Digits):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(key) + ":" + dump(item) for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dump, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    main()
