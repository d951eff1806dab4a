import os

os.environ["DEEPEVAL_TELEMETRY_OPT_OUT"] = "YES"
os.environ.setdefault("DEEPEVAL_DISABLE_TIMEOUTS", "1")

from deepeval.metrics import GEval
from deepeval.models import LocalModel
from deepeval.test_case import LLMTestCase
from shown import shown

try:
    from deepeval.test_case import SingleTurnParams as Params
except ImportError:
    from deepeval.test_case import LLMTestCaseParams as Params

case = LLMTestCase(input="Where is the station?", actual_output="Second street on the left. Have a nice day!")

# docs: deepeval
judge = LocalModel(model="judge@geval", base_url=os.environ["JUDGE_URL"], api_key="none")


def politeness(model):
    return GEval(
        name="politeness",
        evaluation_steps=["Check whether the actual output is polite."],  # a judge writes no steps of its own
        evaluation_params=[Params.INPUT, Params.ACTUAL_OUTPUT],
        model=model,
        async_mode=False,
    )


metric = politeness(judge)
metric.measure(case)                               # metric.score is 0 to 1
# end
assert 0 <= metric.score <= 1, metric
shown("deepeval", "GEval, LocalModel", f"score {metric.score:.3f}")

# docs: deepeval-logprobs
class JudgeWithLogprobs(LocalModel):
    """G-Eval weighs the tokens that could stand for the score, where the model returns raw responses."""

    def generate_raw_response(self, prompt, top_logprobs=20):
        client = self.load_model(async_mode=False)
        response = client.chat.completions.create(
            model=self.name,
            messages=[{"role": "user", "content": prompt}],
            temperature=self.temperature,
            logprobs=True,
            top_logprobs=top_logprobs,
        )
        return response, 0.0


metric = politeness(JudgeWithLogprobs(model="judge@geval", base_url=os.environ["JUDGE_URL"], api_key="none"))
metric.measure(case)                               # the expected score, weighed by G-Eval itself
# end
assert 0 <= metric.score <= 1, metric
shown("deepeval", "GEval, logprobs", f"score {metric.score:.3f}")
