"""Records types.json: texts of many types as PostgreSQL prints them, with the JSON of to_jsonb.

Usage: PGHOST=… record_types.py > types.json
"""

import json

from record import catalogue, psql

SETUP = '''
create extension hstore; create extension citext; create extension ltree; create extension cube;
create schema app;
create type mood as enum ('sad', 'so so', 'a"b');
create domain positive as int check (value > 0);
create domain ratio as float8; create domain blob as bytea; create domain code as char(3);
create domain numbers as int[]; create domain twice as positive; create domain stamp as timestamptz;
create domain document as json;
create type point2 as (x float8, y float8);
create type address as (street text, zip int, "Loc ""1""" point2, tags text[], at timestamptz);
create type app.nested as (inner_one address, list point2[], raw bytea, id oid, doc jsonb, old json, h hstore, ok bool, n numeric);
create type empty_type as ();
create table rows_of (a int, b text, c int); alter table rows_of drop column b;
'''

VALUES = {
    "bool": ["t", "f"],
    "int2": ["-32768", "0"], "int4": ["2147483647"],
    "int8": ["-9223372036854775808", "9223372036854775807"],
    "numeric": ["0", "1.10", "1.000", "-0.5", "1e20", "1e-20", "NaN", "Infinity", "-Infinity", "12345678901234567890.123456789", "1e400"],
    "float4": ["1.5", "0.1", "1e38", "1e-45", "-0", "NaN", "Infinity", "-Infinity", "16777216", "1e15", "1e-5"],
    "float8": ["1.5", "1e300", "-1.7976931348623157e308", "5e-324", "-0", "NaN", "-Infinity", "1e15", "1e14", "123456789.123456789", "1e-7", "0.0001", "1.25e22"],
    "text": ["", "null", 'a"b\\c', "tab\tnl\ncr\rbs\bff\f", "\x01\x1f\x7f", "Ünï 日本 😀", "\u2028<script>&"],
    "varchar": ["  a "], "char(5)": ["abc", ""], '"char"': ["z", "", "é"], "name": ["nm"], "citext": ["HeLLo"],
    "bytea": ["\\x00ff10", ""],
    "uuid": ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
    "date": ["2024-02-29", "infinity", "-infinity", "0044-03-15 BC", "12345-01-01"],
    "time": ["12:34:56.789012", "24:00:00"], "timetz": ["12:34:56.789+02", "12:34:56-05:30"],
    "timestamp": ["2024-01-02 03:04:05.678901", "2024-01-02 03:04:05.6", "2024-01-02", "infinity", "-infinity", "0044-03-15 12:00:00 BC", "12345-01-01 00:00:00"],
    "timestamptz": ["2024-01-02 03:04:05.678901+02", "2024-01-02 03:04:05+00", "infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "12345-01-01 00:00:00+00"],
    "interval": ["1 year 2 mons 3 days 04:05:06.789", "-1 day", "0"],
    "json": ['{"b":1, "a" : [1,2,{"c":null}], "b":2}', "null", '"str"', "5", "[ ]", "{ }", "true", '{"n":1e5}', "-0", "-0.0", "1.50e1", "1E-3", "0e3",
             '{"a":{"x":1,"x":2,"y":3},"a":{"z":{"q":1,"q":[1,{"w":1,"w":2}]},"z":0}}', '{"\\u0061":1,"a":2,"b":[]}', '"\\u00e9\\n\\"\\/\\ud83d\\ude00"', ' [ 1 , "a, b : c" ] ',
             '{"a":{"k":1,"k":2},"b":{"k":1,"k":2,"k":3}}', "{" + ",".join(f'"k{n % 20}":{n}' for n in range(50)) + "}", '{"":1,"":2}', '[[],{},[{}],"]"]'],
    "jsonb": ['{"b":1,"a":[1,2,{"c":null}]}', "null", '"str"', "5.50", "[]", "{}", '{"k":"\\u00e9\\n\\"\\u0001"}', '{"n":1e5,"m":12345678901234567890}', "1e100", '[[[["x",{}]]]]'],
    "mood": ["sad", "so so", 'a"b'],
    "positive": ["5"], "twice": ["7"], "ratio": ["NaN", "1e20"], "blob": ["\\x0102"], "code": ["x"], "numbers": ["{1,2}"],
    "stamp": ["2024-01-02 03:04:05+00"], "document": ['{"a":1,"a":2}'],
    "int4[]": ["{1,2,NULL}", "{}", "{{1,2},{3,4}}", "[2:4]={7,8,9}", "[0:1][-1:0]={{1,2},{3,4}}", "{{{1},{2}}}"],
    "text[]": ['{a,"b,c","d\\"e",NULL,"null","","\\\\","{x}"," y ",é}', "{{a,b},{c,NULL}}"],
    "bool[]": ["{t,f,NULL}"], "numeric[]": ["{1.10,NaN,1e20,Infinity}"], "float8[]": ["{1.5,NaN,Infinity,1e20,-0}"],
    "uuid[]": ["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"], "bytea[]": ['{"\\\\x00ff","\\\\x"}'], "oid[]": ["{1,4294967295}"],
    "char(3)[]": ["{a,bcd}"], "timestamptz[]": ['{"2024-01-02 03:04:05+00",infinity}'], "timestamp[]": ['{"2024-01-02 03:04:05"}'],
    "json[]": ['{"{\\"a\\": 1, \\"a\\": [2]}",null}'], "jsonb[]": ['{"{\\"a\\": \\"b\\\\\\"c\\"}","5"}'], "mood[]": ['{sad,"so so","a\\"b"}'],
    "box[]": ["{(1,2),(0,0);(3,4),(1,1)}"], "point[]": ['{"(1,2)","(3,4)"}'], "positive[]": ["{1,2}"], "ratio[]": ["{NaN}"], "numbers[]": ['{"{1,2}","{3}"}'], "hstore[]": ['{"\\"a\\"=>\\"1\\"",NULL}'],
    "int4range": ["[1,5)", "empty"], "int4multirange": ["{[1,3),[5,7)}"], "tstzrange": ['["2024-07-01 16:00:00+00",)'], "int4range[]": ['{"[1,5)",empty}'],
    "inet": ["10.0.0.1/8", "::1"], "cidr": ["10.0.0.0/8"], "macaddr": ["08:00:2b:01:02:03"],
    "bit(4)": ["1010"], "varbit": ["101", ""], "money": ["1234.5"], "xml": ['<a href="x">t&amp;</a>'], "tsvector": ["'a':1 'b':2"], "point": ["(1,2)"],
    "oid": ["4294967295"], "int2vector": ["1 2 3", ""], "oidvector": ["1 2"], "int2vector[]": ['{"1 2","3"}'], "regtype": ["int4"], "xid": ["5"], "pg_lsn": ["0/16B3748"], "tid": ["(1,2)"], "jsonpath": ["$.a[*]"],
    "ltree": ["a.b.c"], "cube": ["(1,2),(3,4)"],
    "hstore": ['a=>1, b=>NULL, "c d"=>"x\\"y\\\\z"', "", '"a=>b"=>", "', '"null"=>"NULL"', 'é=>"日本"'],
    "point2": ["(1.5,NaN)", "(,)", "(1e20,-0)"],
    "address": ['("1 Main ""St""",12345,"(1.5,2.5)","{a,""b c"",NULL}","2024-01-02 03:04:05+00")', '(,,,,)', '("",0,"(,)","{}",infinity)', '("a,b(c)\\\\d",1,,,)'],
    "address[]": ['{"(a,1,\\"(1,2)\\",\\"{x,y}\\",)",NULL}'],
    "rows_of": ["(1,2)"], "empty_type": ["()"],
    "app.nested": ['("(""x """"y"""""",1,""(1,2)"",""{a}"",)","{""(1,2)"",""(,NaN)""}","\\\\x00ff",7,"{""a"": [1, ""b""]}","{""a"":1e3,""a"":2e3}","""k""=>""v, w""",t,1.50)'],
}


def main():
    psql("postgres", "drop database if exists type_pairs", "create database type_pairs", "alter database type_pairs set timezone = 'UTC'")
    psql("type_pairs", SETUP)
    pairs, ids = [], set()
    for name, literals in VALUES.items():
        for literal in literals:
            literal = "E'" + literal.replace("\\", "\\\\").replace("'", "''") + "'"
            row = json.loads(psql("type_pairs", f"""
                with value as (select {literal}::{name} as x)
                select json_build_object('type', '{name}'::regtype::oid::int8,
                  'text', format('%s', x), 'json', to_jsonb(x)::text) from value"""))
            pairs.append({"type": row["type"], "name": name, "text": row["text"], "json": row["json"]})
            ids.add(row["type"])
    relation = {"oid": 0, "columns": [{"type": oid} for oid in sorted(ids)]}
    types, _ = catalogue("type_pairs", [relation])
    print('{"types":[')
    print(",\n".join(json.dumps(pg_type, ensure_ascii=False) for pg_type in types))
    print('],"pairs":[')
    print(",\n".join(json.dumps(pair, ensure_ascii=False) for pair in pairs))
    print("]}")


main()
