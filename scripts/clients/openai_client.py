import os

from openai import OpenAI
from pydantic import BaseModel
from shown import shown

PROMPT = "Score from 1 to 5: is this answer polite?\n\nQuestion: Where is the station?\nAnswer: Second street on the left. Have a nice day!"

# docs: openai
client = OpenAI(base_url=os.environ["JUDGE_URL"], api_key=os.environ.get("JUDGE_KEY", "none"))
answer = client.chat.completions.create(
    model="judge",
    messages=[{"role": "user", "content": PROMPT}],
    logprobs=True,
    top_logprobs=5,
)
text = answer.choices[0].message.content       # chain of thought, phrase, score
expected = answer.jurist["expected"]           # from the distribution at the score
likely = answer.choices[0].logprobs.content[-1].top_logprobs
# end
assert text and 1 <= expected <= 5 and len(likely) == 5, answer
shown("openai", "chat.completions.create", f"expected {expected:.3f}")


class Verdict(BaseModel):
    reasoning: str
    score: int
    polite: bool


parsed = client.chat.completions.parse(model="judge", messages=[{"role": "user", "content": PROMPT}], response_format=Verdict)
verdict = parsed.choices[0].message.parsed
assert 1 <= verdict.score <= 5, verdict
shown("openai", "chat.completions.parse", f"score {verdict.score}, polite {verdict.polite}")

stream = client.chat.completions.create(
    model="judge", messages=[{"role": "user", "content": PROMPT}], stream=True, stream_options={"include_usage": True}
)
chunks = list(stream)
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
assert streamed == text, (streamed, text)
shown("openai", "stream=True", f"{len(chunks)} chunks, {chunks[-1].usage.completion_tokens} tokens")

completion = client.completions.create(model="judge@number", prompt=PROMPT, logprobs=5)
shown("openai", "completions.create", f"expected {float(completion.choices[0].text):.3f}")
