"""Templates: what they can do, what they refuse, and how they say it."""

from __future__ import annotations

import pytest

from foreword.data.task.sandbox import MAX_OUTPUT
from foreword.data.task.template import Template, empty_fields
from foreword.errors import TemplateError


def test_fields_and_rendering() -> None:
    template = Template(
        "A: {{ text|upper }}\n{% if note %}({{ note }})\n{% endif %}{% for w in words %}{{ w }},{% endfor %}\n"
    )
    assert template.fields == {"text", "note", "words"}
    assert template.optional == {"note"}
    assert template.render({"text": "x", "words": ["a", "b"]}) == "A: X\na,b,\n"
    assert template.render({"text": "x", "note": "n", "words": "é"}) == "A: X\n(n)\né,\n"


def test_defaults_and_is_defined_see_that_a_field_is_missing() -> None:
    template = Template("{{ a|default('x') }}{% if b is defined %}({{ b }}){% endif %}{{ row['c d']|d('y') }}")
    assert template.optional == template.fields == {"a", "b", "c d"}
    assert template.render({}) == "xy"
    assert template.render({"a": None, "b": float("nan")}) == "xy"
    assert template.render({"a": 1, "b": "", "c d": "z"}) == "1()z"


def test_values_of_every_type() -> None:
    template = Template("{{ a }}|{{ b }}|{{ c }}|{{ d.e }}")
    assert template.render({"a": 0, "b": True, "c": 1.5, "d": {"e": "中"}}) == "0|true|1.5|中"


def test_a_column_with_spaces_and_a_column_called_row() -> None:
    template = Template('{{ row["a b"] }} {{ row["a b"] }}')
    assert template.fields == {"a b"}
    template.validate(["a b"])
    assert template.render({"a b": "x"}) == "x x"
    with pytest.raises(TemplateError, match="no value for 'a b'"):
        template.render({"c": "x"})
    assert Template("{{ row }}").render({"row": "x"}) == "x"


def test_text_in_a_row_is_not_a_template() -> None:
    assert Template("{{ text }}").render({"text": "{{ 7*7 }}<b>&\r\n"}) == "{{ 7*7 }}<b>&\r\n"


def test_a_missing_column_is_named_with_its_line_and_the_nearest() -> None:
    with pytest.raises(TemplateError, match="did you mean 'text'") as caught:
        Template("first\n{{ txet }}").validate(["text", "label"])
    assert caught.value.where == "template:2:4"
    Template("{% if note %}{{ note }}{% endif %}{{ other|default('x') }}").validate(["text"])


@pytest.mark.parametrize("value", [None, float("nan")])
def test_a_row_without_the_value_is_refused(value: object) -> None:
    with pytest.raises(TemplateError, match="no value for 'text'"):
        Template("{{ text }}").render({"text": value})
    assert empty_fields(Template("{{ text }}{% if a %}{% endif %}"), {"text": value}) == ["text"]


@pytest.mark.parametrize(
    "source", ["{{ text", "{% if %}", "{{ text|nonsense }}", "{% nonsense %}", "{{ " + "(" * 3000 + "}}"]
)
def test_templates_that_do_not_parse(source: str) -> None:
    with pytest.raises(TemplateError):
        Template(source).render({"text": "a"})


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ ''['__cla' ~ 'ss__'] }}",
        "{{ text|attr('__class__') }}",
        "{{ text.__class__.__mro__[1].__subclasses__() }}",
        "{{ '{0.__class__}'.format(text) }}",
        "{{ text.format_map(row) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ lipsum.__globals__ }}",
        "{{ range.__self__ }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{% extends 'x' %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% set x = text %}{{ x }}",
        "{{ row.update({'a': 1}) }}",
        "{{ row.pop('text') }}",
        "{{ items.append(1) }}",
    ],
)
def test_escapes_from_the_sandbox_are_refused(source: str) -> None:
    fields = {"text": "a", "items": ["b"]}
    with pytest.raises(TemplateError):
        Template(source).render(fields)
    assert fields == {"text": "a", "items": ["b"]}


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10**9 }}",
        "{{ 9**9**9**9 }}",
        "{{ 9**99999999 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ 'a'.ljust(999999999) }}",
        "{{ 'a'|center(999999999) }}",
        "{{ range(10**9)|list }}",
        "{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}",
        "{% for a in range(1000) recursive %}{{ loop(range(1000)) }}{% endfor %}",
        "{% for a in range(1000) %}{{ big }}{% endfor %}",
        "{{ big|replace('a', big) }}",
        "{{ big|list|join(big) }}",
        "{{ big|replace('', 'aaa') }}",
        "a" * 70_000,
    ],
)
def test_templates_that_would_grow_or_run_for_ever_are_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        Template(source).render({"big": "a" * 10_000})


def test_a_long_row_is_not_refused_for_being_long() -> None:
    assert len(Template("{{ text }}").render({"text": "a" * (MAX_OUTPUT - 1)})) == MAX_OUTPUT - 1


@pytest.mark.parametrize(
    "source", ["{{ 1 // 0 }}", "{{ text + 1 }}", "{{ text.nothing }}", "{{ text[5] }}", "{{ text() }}"]
)
def test_errors_while_rendering_are_template_errors(source: str) -> None:
    with pytest.raises(TemplateError):
        Template(source).render({"text": "a"})
