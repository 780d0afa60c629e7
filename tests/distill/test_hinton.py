"""Hinton's loss against plain floats, and what objectives have in common: options, parts."""

import pytest
import torch
from distilling import assert_is, case, kl, mean, supervised

from babelpress.distill import OBJECTIVES, by_objective
from babelpress.distill._seen import Seen, Truth
from babelpress.distill.hinton import loss
from babelpress.errors import BadSetting, UnknownName


@pytest.mark.parametrize(("alpha", "temperature"), [(0.3, 3.0), (0.0, 1.0), (1.0, 0.5)])
def test_it_is_the_formula_and_so_is_its_slope(alpha, temperature):
    def slow(student, teacher):
        soft = mean(kl(t, s, temperature) for s, t in zip(student, teacher, strict=True))
        return alpha * supervised(student) + (1 - alpha) * temperature**2 * soft

    assert_is(lambda *given: loss(*given, alpha=alpha, temperature=temperature), slow)


def test_a_student_that_says_what_its_teacher_says_has_nothing_to_learn_of_it():
    student, teacher, truth = case()
    same = student.detach().clone().requires_grad_()

    found = loss(Seen(same), Seen(same.detach() + 7.0), truth, alpha=0.0)
    found.backward()

    assert found.item() == pytest.approx(0, abs=1e-12)
    assert same.grad is not None
    assert same.grad.abs().max() < 1e-12
    assert loss(Seen(student), Seen(teacher), truth, alpha=0.0) > 0.1


OF_LOGITS = [each for each in OBJECTIVES.names() if OBJECTIVES.facts(each)["READS"] == "logits"]


@pytest.mark.parametrize("name", OF_LOGITS)
def test_parts_of_a_batch_weighted_by_their_tokens_give_the_whole(name):
    student, teacher, truth = case(1)
    functions = [OBJECTIVES.optional(name, each) for each in ("loss", "mixed_loss")]
    for function in filter(None, functions):
        whole = function(Seen(student), Seen(teacher), truth)
        parts = zip(student.split(2), teacher.split(2), truth.split(2), strict=True)
        sums = [len(s) * function(Seen(s), Seen(t), part) for s, t, part in parts]

        torch.testing.assert_close(whole, sum(sums) / len(student))


def test_unmixed_text_is_one_text():
    truth = Truth.plain(torch.tensor([1, 2]))

    assert truth.share_N.tolist() == [1, 1]
    assert torch.equal(truth.other_N, truth.target_N)


def test_options_go_to_the_objective_that_has_them():
    given = {"temperature": 4.0, "hidden.map": "last"}

    assert by_objective(["hinton", "hidden"], given) == {
        "hinton": {"temperature": 4.0},
        "hidden": {"map": "last"},
    }


@pytest.mark.parametrize(
    ("names", "given", "words"),
    [
        (["hinton"], {"temper": 1.0}, "hinton has no option temper. It accepts alpha=0.5"),
        (["hinton", "hidden"], {"a": 1}, "no objective here has an option a. They have hinton.al"),
        (["hinton", "logits"], {"alpha": 0.1}, "both have an option alpha. Write hinton.alpha or"),
        (["hinton"], {"alpha": 1.5}, "hinton's alpha is 1.5. Use a number from 0 to 1."),
        (["hinton"], {"temperature": "hot"}, "must be of the type float"),
        (["mixkd"], {"distance": "cos"}, "mixkd's distance is 'cos'. Use mse or kl."),
    ],
)
def test_an_option_that_cannot_be_is_one_line(names, given, words):
    with pytest.raises(BadSetting) as caught:
        by_objective(names, given)
    assert words in str(caught.value)


def test_an_objective_that_is_none_is_named_with_the_known_ones():
    with pytest.raises(UnknownName, match="no distillation objective is called 'hintn'"):
        by_objective(["hintn"], {})
