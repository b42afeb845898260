"""Templates that nobody has read: what they may do, and how soon they are stopped."""

import sys
import time
from typing import Any

import pytest

from ownlm.errors import OwnlmError
from ownlm.tokenizer.jinja_template import JinjaTemplate

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
ENDS = "{% endfor %}" * 3
# ruff: noqa: E501 (a template a line)
# Each must end within a second or two, and without the memory that it asks for.
COSTLY = {
    "loops": f"{ENDLESS}{ENDS}",
    "loops that write": f"{ENDLESS}x{ENDS}",
    "loops that use loop": f"{ENDLESS}{{{{ loop.index }}}}{ENDS}",
    "loops in a block": f"{{% set x %}}{ENDLESS}x{ENDS}{{% endset %}}{{{{ x }}}}",
    "loops in a macro": f"{{% macro m() %}}{ENDLESS}x{ENDS}{{% endmacro %}}{{{{ m() | length }}}}",
    "a macro that calls itself": "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}",
    "a macro that forks": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "recursive loops": "{% for a in [[[1]]] recursive %}{{ loop(range(9999)|batch(99)) }}{% endfor %}",
    "times": "{{ 'a' * 10**10 }}",
    "times a list": "{{ [1] * 10**10 }}",
    "times a marked text": "{{ ('a'|safe) * 10**10 }}",
    "a power": "{{ 10 ** (10 ** 9) }}",
    "squares": "{% set ns = namespace(x=9) %}{% for a in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "doubling by plus": "{% set ns = namespace(x='aa') %}{% for a in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubling by tilde": "{% set ns = namespace(x='aa') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubling by a block": (
        "{% set ns = namespace(x='aa') %}{% for a in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}"
        "{% set ns.x = y %}{% endfor %}"
    ),
    "doubling by join": "{% set ns = namespace(x='aa') %}{% for a in range(60) %}{% set ns.x = [ns.x, ns.x]|join %}{% endfor %}",
    "doubling by replace": (
        "{% set ns = namespace(x='aa') %}{% for a in range(60) %}{% set ns.x = ns.x.replace('a', 'aa') %}{% endfor %}"
    ),
    "doubling by the filter replace": (
        "{% set ns = namespace(x='aa') %}{% for a in range(60) %}{% set ns.x = ns.x|replace('a', 'aa') %}{% endfor %}"
    ),
    "doubling by format": (
        "{% set ns = namespace(x='aa') %}{% for a in range(60) %}{% set ns.x = '%s%s' % (ns.x, ns.x) %}{% endfor %}"
    ),
    "a list of lists": "{% set ns = namespace(x=[1]) %}{% for a in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
    "a mapping of mappings": (
        "{% set ns = namespace(x={}) %}{% for a in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}"
        "{{ ns.x|tojson }}"
    ),
    "by dict()": "{% set ns = namespace(x=1) %}{% for a in range(60) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}{{ ns.x }}",
    "views of mappings": (
        "{% set ns = namespace(x=1) %}{% for a in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x}.items() %}{% endfor %}"
        "{{ ns.x }}"
    ),
    "a wide format": "{{ '%9999999999d' % 1 }}",
    "a computed width": "{{ '%*d' % (999999999, 1) }}",
    "another computed width": "{{ '{:{}}'.format(1, 999999999) }}",
    "the filter format": "{{ '%9999999999d'|format(1) }}",
    "center": "{{ 'a'|center(9999999999) }}",
    "ljust": "{{ 'a'.ljust(9999999999) }}",
    "expandtabs": "{{ '\\t'.expandtabs(9999999999) }}",
    "indent": "{{ 'a\\nb'|indent(9999999999) }}",
    "tojson's indent": "{{ [[[1]]]|tojson(indent=9999999999) }}",
    "join of what is made as it goes": "{{ range(99999)|map('center', 9999)|join|length }}",
    "written out": "{% for a in range(99999) %}" + "x" * 1000 + "{% endfor %}",
}


def peak_megabytes() -> float:
    """The most memory that this process has had, where the system tells."""
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


@pytest.mark.parametrize("name", COSTLY)
def test_what_costs_too_much_is_stopped_soon(name: str) -> None:
    template = COSTLY[name]
    started = time.process_time()
    before = peak_megabytes()
    with pytest.raises(OwnlmError, match="was stopped: it") as told:
        JinjaTemplate(template).render()
    assert "\n" not in str(told.value)
    assert peak_megabytes() - before < 100
    assert time.process_time() - started < 2.5


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__ }}",
        "{{ ''|attr('__class__') }}{{ (''|attr('__class__')).mro() }}",
        "{{ namespace.__init__.__globals__ }}{{ namespace.__init__.__globals__['re'] }}",
        "{{ raise_exception.__globals__['json'] }}",
        "{{ self.__init__.__globals__.x }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ '{0.__class__}'.format('a') }}",
        "{{ messages.append(1) }}",
        "{% set ns = namespace(__class__=1) %}",
        "{{ 'a'.encode() }}",
        "{{ (1).to_bytes(9999999999, 'big') }}",
        "{% include 'x' %}",
        "{% import 'x' as y %}",
        "{% extends 'x' %}",
    ],
)
def test_what_reaches_too_far_is_stopped(template: str) -> None:
    with pytest.raises(OwnlmError, match="chat template") as told:
        JinjaTemplate(template).render(messages=[{"role": "user"}])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% for %}", "mistake in line 1"),
        ("\n\n{{ a", "mistake in line 3"),
        ("{{ a|no_such_filter }}", "no_such_filter"),
        ("{{ (" * 3000, "chat template"),
        ("x" * 300_000, "far more than any chat needs"),
        ("{{ a }}" * 20_000, "far more than any chat needs"),
        ("{{ raise_exception('roles must alternate') }}", "refuses these messages: roles must alternate"),
        ("{{ messages.x.y }}", "refuses these messages"),
        ("{{ 1 / 0 }}", "fails on these messages"),
        ("{% autoescape true %}{% endautoescape %}", "autoescape"),
    ],
)
def test_mistakes_are_one_line(template: str, says: str) -> None:
    with pytest.raises(OwnlmError, match=says) as told:
        JinjaTemplate(template).render(messages=[])
    assert "\n" not in str(told.value) and len(str(told.value)) < 400


def render(template: str, **variables: Any) -> str:
    return JinjaTemplate(template).render(**variables).text


def test_what_templates_are_given() -> None:
    assert render("{% if true %}\n  a\n  {% endif %}\nb") == "  a\nb"
    assert render("{% for a in [1, 2, 3] %}{% if a == 2 %}{% continue %}{% endif %}{{ a }}{% endfor %}") == "13"
    assert render("{{ {'b': '<é>', 'a': 1}|tojson }}") == '{"b": "<é>", "a": 1}'
    assert render("{{ [1]|tojson(indent=2) }}{{ {'b': 1, 'a': 2}|tojson(sort_keys=true, separators=(',', ':')) }}") == (
        '[\n  1\n]{"a":2,"b":1}'
    )
    assert len(render("{{ strftime_now('%Y') }}")) == 4
    assert render("{% set ns = namespace(a=1) %}{% set ns.a = ns.a + 1 %}{{ ns.a }}{{ dict(x=1).x }}") == "21"
    assert (
        render("{% for a in [1, 2] %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% endfor %}")
        == "1/2,2/2"
    )
    assert (
        render("{% for k, v in {'a': 1}.items() %}{{ k ~ v }}{% endfor %}{{ (1, 2)[0] }}{{ [1] + [2] }}") == "a11[1, 2]"
    )
    assert render("{{ messages[0]['content'].split('b')|join('-') }}", messages=[{"content": "abc"}]) == "a-c"
    assert render("{{ '%s is %d' % ('a', 1) }}{{ '{} {x}'.format(1, x=2) }}") == "a is 11 2"


def test_marks_of_what_is_generated() -> None:
    template = JinjaTemplate(
        "{% macro say(x) %}{% generation %}{{ x }}{% endgeneration %}{% endmacro %}"
        "{% for m in messages %}[{% generation %}{{ m }}!{% endgeneration %}]{% endfor %}{{ say('end') }}"
    )
    rendered = template.render(messages=["Hi", "Yes"])
    assert template.marks_generation
    assert rendered.text == "[Hi!][Yes!]end"
    assert [rendered.text[start:end] for start, end in rendered.generated] == ["Hi!", "Yes!", "end"]
    assert not JinjaTemplate("{{ 'generation' }}").marks_generation


def test_a_long_conversation_is_not_costly() -> None:
    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content|trim + '<|im_end|>' }}{% endfor %}"
    )
    messages = [{"role": "user", "content": "word " * 2000}] * 400
    assert len(render(template, messages=messages)) > 3_900_000
