"""Meta-KD: a teacher of several domains, which teaches what carries over from one domain to the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kdcore import layer_map
from kdcore.errors import UserError
from kdcore.events import Progress
from kdcore.fields import tune
from kdcore.layer_map import LayerMap
from kdcore.losses.attention import score_rows
from kdcore.losses.hidden import content_means, row_means
from kdcore.losses.precision import full
from kdcore.losses.soft_targets import soft_targets
from kdcore.methods.base import (
    Ablations,
    Build,
    Method,
    MethodConfig,
    TaskKind,
    same_heads,
    temperature_field,
    without_weight,
)
from kdcore.models.projections import STD, linear, new_linear
from kdcore.records import ModelSize, Needs, Outputs, Paper, Setup, Stage, Step, TeacherAnswers, Term, want

META = "meta-teacher"


class MetaKD(Method):
    """Meta-KD: a teacher of several domains learns most from typical rows, then teaches what it knows and where it may.

    loss     meta-teacher stage: hard + corruption_weight corrupt
             imitate stage: hidden + attention + domain_weight domain
             predict stage: soft
    hard     t_b CE(y, z^T), mean over rows
    corrupt  t_b CE(d~, V u), mean over rows; u = tanh(A (E[d] + c) + a), c the mean of the last states of a row's
             tokens but the first, d~ the batch's domains in another order: it learns to say nothing of the domain
    hidden   g_b (h_j P + p - H_k)^2, mean over width and a row's valid tokens, summed over j = 0..M, k = j N / M,
             mean over rows
    attention  g_b (A_j - B_k)^2 of raw scores, mean over heads and pairs of valid tokens, summed over j = 1..M, mean
             over rows
    domain   g_b (v P + p - w)^2, mean over width, then over rows; v, w = A (E[d] + c) + a of student and teacher
    soft     T^2 KL(softmax(z^T / T) || softmax(z / T)), mean over rows
    row      t_b = max(0, (cos(e, m_d) + cos(e, mean of the other domains' m)) / 2): how typical row b is; e the mean of
             a row's last states but the first, m_d the mean of e over the rows of domain d
    expertise  g_b = (1 + t_b) / (1 + exp((1 - p_y)^2)), p_y what the meta-teacher gives the gold label; without a graph
    shapes   h, H: states of student and teacher, [batch, tokens, width]; A, B: [batch, heads, tokens, tokens]; z:
             [batch, classes]; t, g, y, d: [batch]; as many heads as the teacher's, M divides N
    departs
      - sources: Both of the authors' releases were read, the paper itself in its abstract and introduction. Where the
        two differ, the first one is followed.
      - domains: The paper trains a student on each domain's rows alone; ours learns from the rows of all domains, and
        its score is that of the whole dev split.
      - row: e comes from the run's teacher, which is fine-tuned; the released code takes an encoder before any
        fine-tuning. The paper has prototypes for each domain and class, and two factors; the code has one prototype a
        domain and equal factors, and so has this. Padding is left out of all means; the code counts it. States of a
        fine-tuned model lie apart by class, so that a domain's mean leans to one of them and some rows of the others
        would have a negative t and be unlearned: they count as 0 here.
      - meta-teacher: It starts as the run's teacher, which has learned all domains as one, and not from a pretrained
        model; it keeps that model's own classifier, without the code's relu in front of it and the dropout behind the
        domains' tanh. Its weights of the best score on `select` teach.
      - corruption_weight: 0.5 as in the released scripts (0.2 by default in the code).
      - domain_weight: The released script never turns this term on, so 0; where it is on, its weight there is 0.5. The
        code averages it over the batch before it is weighted by row.
      - attention: The code sets masked scores to 0 on both sides and counts them; here pairs with padding are left out.
        Its sums over heads and layers are kept as they are there: mean over heads, sum over layers.
      - expertise: Of rows outside the training data (those that decide the stage's best weights), t is the mean.
      - soft: The code has the cross-entropy with softmax(z^T / T), the same gradient at its T = 1; T^2 is ours. The
        first release divides by the number of classes once more.
      - imitate: 10 of 13 epochs as in the first release, which then has another rate (3e-5 after 5e-5) and a teacher
        with dropout; here one rate, and a teacher without.
    """

    key = "meta-kd"
    title = "Meta-KD"
    family = "data"
    formula = r"""
    \mathcal{L}_{\text{meta}} &= t_b \bigl(\mathrm{CE}(y, z^{\mathrm T}) + \gamma_1\, \mathrm{CE}(\tilde d, V u)\bigr),
      \qquad u = \tanh(A\,(E_d + \bar h^{\mathrm T}_N) + a) \\
    \mathcal{L}_{\text{imitate}} &= g_b \Bigl(\sum_{j=0}^{M} \frac{1}{n\,d} \bigl\| h^{\mathrm S}_j P -
      h^{\mathrm T}_{jN/M} \bigr\|_F^2 + \sum_{j=1}^{M} \frac{1}{a\,n^2} \bigl\| A^{\mathrm S}_j - A^{\mathrm T}_{jN/M}
      \bigr\|_F^2 + \gamma_2 \mathcal{L}_{\text{domain}}\Bigr) \\
    \mathcal{L}_{\text{predict}} &= T^2\, \mathrm{KL}\bigl(\operatorname{softmax}(z^{\mathrm T}/T) \,\big\|\,
      \operatorname{softmax}(z^{\mathrm S}/T)\bigr) \\
    t_b &= \max\Bigl(0, \tfrac12 \Bigl[\cos(e_b, \mu_d) + \cos\bigl(e_b, \tfrac{1}{D-1} \sum_{d' \neq d}
      \mu_{d'}\bigr)\Bigr]\Bigr),
      \qquad g_b = \frac{1 + t_b}{1 + \exp\bigl((1 - p^{\mathrm T}_{y})^2\bigr)}
    """
    papers = (
        Paper(
            key="pan2021metakd",
            title="Meta-KD: A Meta Knowledge Distillation Framework for Language Model Compression across Domains",
            authors="Haojie Pan, Chengyu Wang, Minghui Qiu, Yichang Zhang, Yaliang Li, Jun Huang",
            venue="ACL-IJCNLP",
            year=2021,
            arxiv="2012.01266",
        ),
    )
    needs = Needs(student=want("logits", "hidden", "scores"), teacher=want("logits", "hidden", "scores"))
    kinds = frozenset({"classification"})
    batch_relational = True
    domains = True

    class Config(MethodConfig):
        meta: float = Field(
            1.0, gt=0, le=10, description="steps in which the meta-teacher learns, in multiples of the run's"
        )
        corruption_weight: float = Field(
            0.5, ge=0, le=100, description="gamma 1: weight of the meta-teacher's shuffled domains"
        )
        imitate: float = Field(
            0.7692, ge=0, le=1, description="share of the steps that match states and attention; the rest the answers",
            json_schema_extra=tune(0.2, 0.9),
        )  # fmt: skip
        domain_weight: float = Field(
            0.0, ge=0, le=100, description="gamma 2: weight of the domain states; off in the released script"
        )
        temperature: float = temperature_field(1.0)

    config: Config

    def __init__(self, config: Config, setup: Setup) -> None:
        super().__init__(config, setup)
        (self.name, teacher), *_ = setup.teachers.items()
        if config.imitate:
            same_heads(setup, "Meta-KD compares attention head by head", "set imitate to 0")
        if config.imitate and config.domain_weight and not config.corruption_weight:
            raise UserError(
                "options.domain_weight", "nothing trains the meta-teacher's domain states, which it weighs",
                "give corruption_weight a value, or set domain_weight to 0",
            )  # fmt: skip
        self.map = layer_map.single(self.layer_map(config, setup.student, teacher))
        self.depth, count, seed = teacher.layers, max(2, len(setup.domains)), setup.seed
        if config.corruption_weight:
            self.of_teacher = Domains(count, teacher.width, seed)
        if config.imitate:
            self.project = linear(setup.student.width, teacher.width, seed)
            if config.domain_weight:
                self.of_student = Domains(count, setup.student.width, seed + 1)
        self._ids, self._typical = torch.zeros(0, dtype=torch.int64), torch.zeros(0)

    @classmethod
    def pilots(cls, config: MethodConfig, teachers: int) -> float:
        assert isinstance(config, cls.Config)
        return config.meta

    @classmethod
    def uses_unlabelled(cls, config: MethodConfig) -> bool:
        assert isinstance(config, cls.Config)
        return config.imitate < 1

    @classmethod
    def relates_rows(cls, config: MethodConfig) -> bool:
        assert isinstance(config, cls.Config)
        return config.corruption_weight > 0

    @classmethod
    def layer_map(cls, config: MethodConfig, student: ModelSize, teacher: ModelSize) -> LayerMap:
        assert isinstance(config, cls.Config)
        if not config.imitate:
            return {}
        return layer_map.alone({0: 0, **layer_map.uniform(student.layers, teacher.layers)})

    @classmethod
    def ablations(cls, config: MethodConfig, kind: TaskKind) -> Ablations:
        assert isinstance(config, cls.Config)
        matched = without_weight(config, domain="domain_weight") if config.imitate else {}
        terms = matched or without_weight(config, corrupt="corruption_weight")  # which trains the domain states
        both = 0 < config.imitate < 1
        return terms | ({"stage imitate": {"imitate": 0.0}, "stage predict": {"imitate": 1.0}} if both else {})

    def build_students(self, build: Build) -> dict[str, nn.Module]:
        return {"student": build(), META: build(of=self.name)}

    def stages(self) -> list[Stage]:
        config, (ours, theirs) = self.config, layer_map.sides(self.map)
        meta = Stage(
            META, Needs(want("logits", hidden=(self.depth,)) if config.corruption_weight else want("logits")),
            self.learn, config.meta, {META: 1.0} | ({"method": 1.0} if config.corruption_weight else {}),
            teachers=(), students=(META,), pilot=True, ends="best", adopt=(META,), labelled=True,
        )  # fmt: skip
        both = Needs(want(hidden=ours, scores=ours[1:]), want("logits", hidden=theirs, scores=theirs[1:]))
        imitate = Stage(
            "imitate", both, self.imitate, config.imitate, teachers=(META,), students=("student",), judge="loss",
            labelled=True,
        )  # fmt: skip
        answers = Needs(want("logits"), want("logits"))
        predict = Stage(
            "predict", answers, self.terms, 1 - config.imitate, {"student": 1.0}, teachers=(META,),
            students=("student",),
        )  # fmt: skip
        return [meta, *([imitate] if config.imitate else []), *([predict] if config.imitate < 1 else [])]

    def pick_teachers(self, step: Step) -> Mapping[str, Tensor | None]:
        return {META: None}

    def before_stage(self, stage: str, teachers: TeacherAnswers) -> Iterator[Progress]:
        if stage == "predict" or len(self._ids):
            return
        ids = teachers.ids()
        order = ids.argsort()
        states = yield from teachers.mean_states(self.name)
        typical = typicality(states, teachers.sources().to(ids.device))
        self._ids, self._typical = ids[order], typical[order]

    # --- terms ------------------------------------------------------------------------------------------------------

    def learn(self, step: Step) -> dict[str, Term]:
        """The meta-teacher's terms."""
        said, labels = step.students[META], step.batch.labels
        typical = self._typical_of(step)
        terms = {"hard": Term((typical * F.cross_entropy(full(said.logits), labels, reduction="none")).mean())}
        if self.config.corruption_weight:
            source = _source(step)
            answers = self.of_teacher.classify(source, content_means(said.hidden[self.depth], said.mask))
            others = source[torch.randperm(len(source), generator=step.rng).to(source.device)]
            each = F.cross_entropy(answers, others, reduction="none")
            terms["corrupt"] = Term((typical * each).mean(), self.config.corruption_weight)
        return terms

    def imitate(self, step: Step) -> dict[str, Term]:
        """The second stage's terms."""
        ours, theirs, mask = step.student, step.teacher, step.student.mask
        expertise = self.expertise(step)
        pairs = [(self.project(full(ours.hidden[j])), full(theirs.hidden[k])) for j, k in self.map.items()]
        hidden = [row_means((one - other).square().mean(-1), mask) for one, other in pairs]
        attention = [score_rows(ours.scores[j], theirs.scores[k], mask) for j, k in self.map.items() if j]
        terms = {
            "hidden": Term((expertise * torch.stack(hidden).sum(0)).mean()),
            "attention": Term((expertise * torch.stack(attention).sum(0)).mean()),
        }
        if self.config.domain_weight:
            apart = self.project(self._domain_state(step, self.of_student, ours, max(self.map)))
            guide = self._domain_state(step, self.of_teacher, theirs, self.depth).detach()
            terms["domain"] = Term((expertise * (apart - guide).square().mean(-1)).mean(), self.config.domain_weight)
        return terms

    def terms(self, step: Step) -> dict[str, Term]:
        """The last stage's term."""
        return {"soft": Term(soft_targets(step.student.logits, step.teacher.logits, self.config.temperature))}

    def expertise(self, step: Step) -> Tensor:
        """g of each row, [batch]: how far the meta-teacher is trusted there. No graph."""
        with torch.no_grad():
            right = full(step.teacher.logits).softmax(-1).gather(1, step.batch.labels[:, None])[:, 0]
            trust: Tensor = (1 + self._typical_of(step)) / (1 + (1 - right).square().exp())
            return trust

    def _typical_of(self, step: Step) -> Tensor:
        """t of each row of the batch, [batch]; the mean of all for a row outside the training data."""
        ids, device = step.batch.ids, step.batch.labels.device
        place = torch.searchsorted(self._ids, ids).clamp(max=len(self._ids) - 1)
        known = self._ids[place] == ids
        return torch.where(known, self._typical[place], self._typical.mean()).to(device)

    def _domain_state(self, step: Step, domains: Domains, said: Outputs, layer: int) -> Tensor:
        """v of each row, [batch, width]."""
        state: Tensor = domains(_source(step), content_means(said.hidden[layer], said.mask))
        return state


class Domains(nn.Module):
    """What a model knows of domains: a vector of each, a linear map of it and a row's content, and a classifier.

    Args:
        count: of domains. width: the model's.
    """

    def __init__(self, count: int, width: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.vectors = nn.Parameter(STD * torch.randn(count, width, generator=generator))
        self.dense = new_linear(width, width, generator)
        self.classifier = new_linear(width, count, generator)

    def forward(self, source: Tensor, content: Tensor) -> Tensor:
        """v: [batch] domains and [batch, width] contents -> [batch, width]."""
        state: Tensor = self.dense(self.vectors[source] + content)
        return state

    def classify(self, source: Tensor, content: Tensor) -> Tensor:
        """Logits of the domains, [batch, domains]."""
        logits: Tensor = self.classifier(torch.tanh(self(source, content)))
        return logits


def typicality(states: Tensor, sources: Tensor) -> Tensor:
    """t of each row: mean of its cosines with its own domain's centroid and with the mean of the others', at least 0;
    [rows].

    Args:
        states: [rows, width]. sources: int64 [rows], the rows' domains, of which at least two have rows.

    Raises:
        ValueError: all rows are of one domain: it has no others.
    """
    there, places = sources.unique(return_inverse=True)  # type: ignore[no-untyped-call]
    if len(there) < 2:
        raise ValueError("all rows are of one domain, so no other has a centroid")
    centroids = torch.stack([states[places == place].mean(0) for place in range(len(there))])
    others = (centroids.sum(0) - centroids) / (len(there) - 1)
    own, other = (F.cosine_similarity(states, means[places], dim=-1) for means in (centroids, others))
    return ((own + other) / 2).clamp(min=0)


def _source(step: Step) -> Tensor:
    """The domains of the batch's rows."""
    source = step.batch.source
    assert source is not None, "the plan has checked that the data name domains"
    return source
