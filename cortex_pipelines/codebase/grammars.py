"""Which tree-sitter grammar reads a language, and the query that finds its facts in a tree.

Languages go by the names of their grammars in tree-sitter-language-pack, as in `ingest.languages`.

Captures of the queries: `function`, `class`, `interface`, `struct`, `enum`, `module`, `type`, `constant` are
definitions; `scope` only qualifies the names in it; `import` is the target of an import; `from` is a Python
`from … import`; `erased` is an import that only the type checker sees; `nest` is a decision that nests, `block`
nests without deciding, `branch` decides without nesting; `chained` is the `if` of an `else if`; `closure` is a
function without a name; `comment` is a comment; `rule.NAME` is a place where the pattern rule NAME of `rules.py` holds.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Parser, Query

_PYTHON = """
(function_definition) @function
(class_definition) @class
(module (assignment left: (identifier) @_n) @constant (#match? @_n "^[A-Z][A-Z0-9_]*$"))
(type_alias_statement) @type
(import_statement name: (dotted_name) @import)
(import_statement name: (aliased_import name: (dotted_name) @import))
(import_from_statement) @from
[(if_statement) (for_statement) (while_statement)] @nest
[(try_statement) (with_statement) (match_statement)] @block
[(elif_clause) (except_clause) (conditional_expression) (boolean_operator)
 (for_in_clause) (if_clause) (case_clause)] @branch
(comment) @comment
"""

_JAVASCRIPT = """
[(function_declaration) (generator_function_declaration) (method_definition)] @function
(variable_declarator name: (identifier) value: [(arrow_function) (function_expression)]) @function
(class_declaration) @class
(program (lexical_declaration (variable_declarator name: (identifier) @_n) @constant)
 (#match? @_n "^[A-Z][A-Z0-9_]*$"))
(program (export_statement (lexical_declaration (variable_declarator name: (identifier) @_n) @constant))
 (#match? @_n "^[A-Z][A-Z0-9_]*$"))
(import_statement source: (string) @import)
(export_statement source: (string) @import)
((call_expression function: (identifier) @_f arguments: (arguments . (string) @import)) (#eq? @_f "require"))
(call_expression function: (import) arguments: (arguments . (string) @import))
[(if_statement) (for_statement) (for_in_statement) (while_statement) (do_statement)] @nest
[(switch_statement) (try_statement)] @block
[(switch_case) (catch_clause) (ternary_expression)] @branch
(binary_expression operator: ["&&" "||" "??"]) @branch
(else_clause (if_statement) @chained)
[(arrow_function) (function_expression)] @closure
(comment) @comment
((call_expression function: (identifier) @_f) @rule.code-from-text (#eq? @_f "eval"))
((new_expression constructor: (identifier) @_f) @rule.code-from-text (#eq? @_f "Function"))
((assignment_expression left: (member_expression property: (property_identifier) @_f) right: (_) @_v)
 @rule.markup-from-text (#any-of? @_f "innerHTML" "outerHTML")
 (#not-match? @_v "^(\\"[^\\"]*\\"|'[^']*'|`[^`$]*`)$"))
((call_expression function: (member_expression object: (identifier) @_o property: (property_identifier) @_f))
 @rule.markup-from-text (#eq? @_o "document") (#any-of? @_f "write" "writeln"))
([(for_statement body: (statement_block (expression_statement (await_expression) @rule.await-in-loop)))
  (while_statement body: (statement_block (expression_statement (await_expression) @rule.await-in-loop)))
  (for_in_statement body: (statement_block (expression_statement (await_expression) @rule.await-in-loop)))])
"""

_TYPESCRIPT = (
    _JAVASCRIPT
    + """
(abstract_class_declaration) @class
(interface_declaration) @interface
(enum_declaration) @enum
(type_alias_declaration) @type
(internal_module) @module
(public_field_definition name: (property_identifier) value: (arrow_function)) @function
(import_statement "type" source: (string) @erased)
"""
)

_GO = """
[(function_declaration) (method_declaration)] @function
(type_spec type: (struct_type)) @struct
(type_spec type: (interface_type)) @interface
(type_spec type: [(type_identifier) (map_type) (slice_type) (array_type) (function_type) (pointer_type)
 (channel_type) (qualified_type) (generic_type)]) @type
(source_file (const_declaration (const_spec) @constant))
(import_spec path: (_) @import)
[(if_statement) (for_statement)] @nest
[(expression_switch_statement) (type_switch_statement) (select_statement)] @block
[(expression_case) (type_case) (communication_case)] @branch
(binary_expression operator: ["&&" "||"]) @branch
(if_statement alternative: (if_statement) @chained)
(comment) @comment
(for_statement body: (block (statement_list (defer_statement) @rule.defer-in-loop)))
((keyed_element . (literal_element (identifier) @_k) (literal_element (true))) @rule.certificates-unchecked
 (#eq? @_k "InsecureSkipVerify"))
((call_expression function: (selector_expression operand: (identifier) @_o field: (field_identifier) @_f)
  arguments: (argument_list . (interpreted_string_literal) @_s)) @rule.shell-command
 (#eq? @_o "exec") (#eq? @_f "Command") (#any-of? @_s "\\"sh\\"" "\\"bash\\"" "\\"/bin/sh\\"" "\\"/bin/bash\\""))
"""

_RUST = """
(function_item) @function
(struct_item) @struct
(union_item) @struct
(enum_item) @enum
(trait_item) @interface
(type_item) @type
(mod_item body: (_)) @module
(impl_item) @scope
[(const_item) (static_item)] @constant
(use_declaration argument: (_) @import)
(mod_item !body name: (identifier) @import)
[(if_expression) (for_expression) (while_expression) (loop_expression)] @nest
(match_expression) @block
(match_arm) @branch
(binary_expression operator: ["&&" "||"]) @branch
(else_clause (if_expression) @chained)
[(line_comment) (block_comment)] @comment
"""

_JAVA = """
[(method_declaration) (constructor_declaration)] @function
[(class_declaration) (record_declaration)] @class
[(interface_declaration) (annotation_type_declaration)] @interface
(enum_declaration) @enum
(import_declaration [(scoped_identifier) (identifier)] @import)
[(if_statement) (for_statement) (enhanced_for_statement) (while_statement) (do_statement)] @nest
[(switch_expression) (try_statement) (try_with_resources_statement)] @block
[(switch_label) (catch_clause) (ternary_expression)] @branch
(binary_expression operator: ["&&" "||"]) @branch
(if_statement alternative: (if_statement) @chained)
[(line_comment) (block_comment)] @comment
((method_invocation object: (method_invocation name: (identifier) @_g) name: (identifier) @_f
  arguments: (argument_list . (_) @_a)) @rule.shell-command
 (#eq? @_g "getRuntime") (#eq? @_f "exec") (#not-match? @_a "^\\"[^\\"]*\\"$"))
"""

_C_FLOW = """
[(if_statement) (for_statement) (while_statement) (do_statement)] @nest
(switch_statement) @block
[(case_statement) (conditional_expression)] @branch
(binary_expression operator: ["&&" "||"]) @branch
(else_clause (if_statement) @chained)
(comment) @comment
((call_expression function: (identifier) @_f) @rule.unbounded-copy
 (#any-of? @_f "gets" "strcpy" "strcat" "sprintf" "vsprintf"))
((call_expression function: (identifier) @_f arguments: (argument_list . (_) @_a)) @rule.shell-command
 (#any-of? @_f "system" "popen") (#not-match? @_a "^\\"[^\\"]*\\"$"))
"""

_C = (
    """
(function_definition) @function
(struct_specifier name: (_) body: (_)) @struct
(union_specifier name: (_) body: (_)) @struct
(enum_specifier name: (_) body: (_)) @enum
(type_definition declarator: (type_identifier)) @type
(preproc_def) @constant
(preproc_include path: (_) @import)
"""
    + _C_FLOW
)

_CPP = (
    _C
    + """
(class_specifier name: (_) body: (_)) @class
(namespace_definition name: (_)) @module
(alias_declaration) @type
[(try_statement) (for_range_loop)] @block
(for_range_loop) @branch
(catch_clause) @branch
"""
)

_RUBY = """
[(method) (singleton_method)] @function
(class) @class
(module) @module
(program (assignment left: (constant)) @constant)
(body_statement (assignment left: (constant)) @constant)
((call method: (identifier) @_f arguments: (argument_list . (string) @import))
 (#any-of? @_f "require" "require_relative" "load"))
[(if) (unless) (while) (until) (for)] @nest
[(case) (begin)] @block
[(elsif) (when) (in_clause) (rescue) (conditional) (if_modifier) (unless_modifier) (while_modifier)
 (until_modifier)] @branch
(binary operator: ["&&" "||" "and" "or"]) @branch
[(do_block) (block) (lambda)] @closure
(comment) @comment
((call !receiver method: (identifier) @_f arguments: (argument_list . (_) @_a)) @rule.code-from-text
 (#eq? @_f "eval") (#not-match? @_a "^(\\"[^\\"#]*\\"|'[^']*')$"))
((call !receiver method: (identifier) @_f arguments: (argument_list . (string (interpolation)))) @rule.shell-command
 (#any-of? @_f "system" "exec" "spawn"))
"""

_PHP = """
[(function_definition) (method_declaration)] @function
(class_declaration) @class
[(interface_declaration) (trait_declaration)] @interface
(enum_declaration) @enum
(namespace_definition name: (_) body: (_)) @module
(const_element) @constant
(namespace_use_clause [(qualified_name) (name)] @import)
[(include_expression (string) @import) (include_once_expression (string) @import)
 (require_expression (string) @import) (require_once_expression (string) @import)]
[(if_statement) (for_statement) (foreach_statement) (while_statement) (do_statement)] @nest
[(switch_statement) (match_expression) (try_statement)] @block
[(else_if_clause) (case_statement) (match_conditional_expression) (catch_clause) (conditional_expression)] @branch
(binary_expression operator: ["&&" "||" "and" "or" "??"]) @branch
(else_clause (if_statement) @chained)
(comment) @comment
((function_call_expression function: (name) @_f) @rule.code-from-text (#eq? @_f "eval"))
((function_call_expression function: (name) @_f) @rule.unsafe-deserialization (#eq? @_f "unserialize"))
((function_call_expression function: (name) @_f arguments: (arguments . (argument (_) @_a))) @rule.shell-command
 (#any-of? @_f "exec" "system" "shell_exec" "passthru" "popen" "proc_open")
 (#not-match? @_a "^(\\"[^\\"$]*\\"|'[^']*')$"))
"""

_CSHARP = """
[(method_declaration) (constructor_declaration) (local_function_statement)] @function
[(class_declaration) (record_declaration)] @class
(interface_declaration) @interface
(struct_declaration) @struct
(enum_declaration) @enum
(namespace_declaration) @module
(using_directive [(identifier) (qualified_name)] @import)
[(if_statement) (for_statement) (foreach_statement) (while_statement) (do_statement)] @nest
[(switch_statement) (switch_expression) (try_statement) (using_statement)] @block
[(switch_section) (switch_expression_arm) (catch_clause) (conditional_expression)] @branch
(binary_expression operator: ["&&" "||" "??"]) @branch
(if_statement alternative: (if_statement) @chained)
(comment) @comment
"""

_BASH = """
(function_definition) @function
((command name: (command_name) @_f . argument: (_) @import) (#any-of? @_f "source" "."))
[(if_statement) (for_statement) (c_style_for_statement) (while_statement)] @nest
(case_statement) @block
[(elif_clause) (case_item)] @branch
(list ["&&" "||"]) @branch
(comment) @comment
((command name: (command_name) @_f) @rule.code-from-text (#eq? @_f "eval"))
((pipeline (command name: (command_name) @_f) . (command name: (command_name) @_g)) @rule.download-and-run
 (#any-of? @_f "curl" "wget") (#any-of? @_g "sh" "bash" "zsh"))
"""

QUERIES: dict[str, str] = {
    "python": _PYTHON,
    "javascript": _JAVASCRIPT,
    "typescript": _TYPESCRIPT,
    "tsx": _TYPESCRIPT,
    "go": _GO,
    "rust": _RUST,
    "java": _JAVA,
    "c": _C,
    "cpp": _CPP,
    "ruby": _RUBY,
    "php": _PHP,
    "csharp": _CSHARP,
    "bash": _BASH,
}


@dataclass(frozen=True, slots=True)
class Grammar:
    """A language's parser, its query (none where only parsing is known) and the query for what did not parse."""

    name: str
    parser: "Parser"
    facts: "Query | None"
    errors: "Query"


@cache
def grammar(language: str) -> Grammar | None:
    """The grammar of a language, made at its first use; None where the pack holds none."""
    from tree_sitter import Parser, Query
    from tree_sitter_language_pack import get_language

    if not language.isidentifier():
        return None
    try:
        spoken = get_language(language)  # type: ignore[arg-type]
    except LookupError:
        return None
    query = QUERIES.get(language)
    facts = Query(spoken, query) if query else None
    return Grammar(language, Parser(spoken), facts, Query(spoken, "[(ERROR) (MISSING)] @e"))
