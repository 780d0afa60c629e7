"""What is told of experts: their tokens, those that stay as they were, languages that miss them."""

from babelpress.moments.expert_loads import Load, layer_of, name_of, rows
from babelpress.steps._pressing import expert_lines


def load(expert, parameter="up", left=False, missing=(), **tokens):
    return Load("mlp.experts", expert, parameter, tokens, tuple(missing), left)


LOADS = [
    (0, load(0, eng_Latn=7, swh_Latn=5)),
    (0, load(0, "down", eng_Latn=7, swh_Latn=5)),
    (0, load(2, eng_Latn=9, swh_Latn=0, missing=["swh_Latn"])),
    (0, load(2, "down", left=True, eng_Latn=9, swh_Latn=0, missing=["swh_Latn"])),
    (3, load(1, left=True, eng_Latn=0, swh_Latn=0, missing=["eng_Latn", "swh_Latn"])),
]


def test_a_report_has_the_tokens_of_every_expert_once():
    found = rows(LOADS)

    assert found == {
        "load": [
            {
                "block": 0,
                "experts": "mlp.experts",
                "numbers": [0, 2],
                "tokens": {"eng_Latn": [7, 9], "swh_Latn": [5, 0]},
            },
            {
                "block": 3,
                "experts": "mlp.experts",
                "numbers": [1],
                "tokens": {"eng_Latn": [0], "swh_Latn": [0]},
            },
        ],
        "left": ["0.mlp.experts.2.down", "3.mlp.experts.1.up"],
        "missing": {
            "0.mlp.experts.2": ["swh_Latn"],
            "3.mlp.experts.1": ["eng_Latn", "swh_Latn"],
        },
    }


def test_a_model_without_experts_has_nothing_to_report_or_say():
    assert rows([]) is None
    assert expert_lines(None) == []
    assert expert_lines(rows([(0, load(0, eng_Latn=7))])) == []


def test_the_user_is_told_what_was_left_and_which_languages_missed_which_experts():
    assert expert_lines(rows(LOADS)) == [
        "Too few tokens, left as they were: 0.mlp.experts.2.down, 3.mlp.experts.1.up.",
        "Experts that saw no token of a language with a share: 0.mlp.experts.2 (swh_Latn), "
        "3.mlp.experts.1 (eng_Latn, swh_Latn).",
    ]


def test_of_many_a_few_are_named_and_the_others_counted():
    (line,) = expert_lines(rows([(0, load(expert, left=True, eng_Latn=1)) for expert in range(9)]))

    assert line == (
        "Too few tokens, left as they were: 0.mlp.experts.0.up, 0.mlp.experts.1.up, "
        "0.mlp.experts.2.up, 0.mlp.experts.3.up and 5 more, which the report names."
    )


def test_the_experts_of_a_stack_are_one_layer():
    assert layer_of(1, "mlp.experts.0.up", load(0)) == layer_of(1, "mlp.experts.5.up", load(5))
    assert layer_of(1, "mlp.experts.0.up", load(0)) != layer_of(0, "mlp.experts.0.up", load(0))
    assert layer_of(1, "a", load(0, "up")) != layer_of(1, "a", load(0, "down"))
    assert layer_of(1, "q+k", None) != layer_of(1, "o", None)


def test_a_stack_has_one_name_which_skip_takes():
    assert name_of(1, "mlp.experts.5.up", load(5)) == "1.mlp.experts.*.up"
    assert name_of(2, "attn.q+k", None) == "2.attn.q+k"
