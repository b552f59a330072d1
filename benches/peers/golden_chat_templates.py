"""Golden chats: what transformers' apply_chat_template makes of ChatML, Llama-style and other templates.

Run: python benches/peers/golden_chat_templates.py   (writes crates/core/tests/fixtures/chat_templates.json)
"""

import json
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

CHATML = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

# A system message in front of the first turn, turns that must alternate, methods of Python's strings.
LLAMA = """
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = '<<SYS>>\n' + messages[0].content.strip() + '\n<</SYS>>\n\n' %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
    {%- set turns = messages %}
{%- endif %}
{%- for message in turns %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('turns must alternate') }}
    {%- endif %}
    {%- if message['role'] == 'user' %}
        {{- bos_token + '[INST] ' + (system_message if loop.first else '') + message['content'] | trim + ' [/INST]' }}
    {%- else %}
        {{- ' ' + message['content'].rstrip().replace('\\r', '') + ' ' + eos_token }}
    {%- endif %}
{%- endfor %}
"""

# Headers, block trimming, a namespace, a loop that stops early, generation marks, JSON, undefined and Python's constants.
HEADERS = """
{{ bos_token }}
{% set seen = namespace(users=0, last='') %}
{% for message in messages %}
    {% if message.role == 'tool' %}{% continue %}{% endif %}
    {% if message.role == 'user' %}{% set seen.users = seen.users + 1 %}{% endif %}
    {% set seen.last = message.role %}
<|start_header_id|>{{ message.role }}<|end_header_id|>
{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|eot_id|>{% endgeneration %}{% else %}
{{ message['content'] | trim }}<|eot_id|>
{%- endif %}

{% if loop.last %}{% break %}{% endif %}
{% endfor %}
{# a comment #}
{{ {'users': seen.users, 'flag': true} | tojson }} {{ seen.last | tojson }} {{ tools }} {{ pad_token }} {{ seen.users > 1 }}
{% if tools is not none and tools %}never{% endif %}
{% if add_generation_prompt and seen.last.endswith('user') %}
<|start_header_id|>assistant<|end_header_id|>

{% endif %}
"""

user = lambda text: {"role": "user", "content": text}
assistant = lambda text: {"role": "assistant", "content": text}
system = {"role": "system", "content": " Be brief. \n"}
CHATS = [
    [user("Hello")],
    [system, user("Hello, \"you\" <b>&</b>"), assistant("Hi!\r\n "), user("  Gr\u00fc\u00dfe \u2603\n")],
    [user("One"), assistant("Two"), user("Three"), assistant("Four ")],
]


def main():
    cases = []
    for template in (CHATML, LLAMA, HEADERS):
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1}, unk_token="<s>")), bos_token="<s>", eos_token="</s>"
        )
        tokenizer.chat_template = template
        for chat in CHATS:
            for prompt in (False, True):
                text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt)
                cases.append({"template": template, "messages": chat, "add_generation_prompt": prompt, "text": text})
    path = Path(__file__).parents[2] / "crates/core/tests/fixtures/chat_templates.json"
    path.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
