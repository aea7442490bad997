"""Chat templates of the kinds that models ship, written anew over the embedded model's tokens."""

_TURN = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
_START = "{% if add_generation_prompt %}<|im_start|>assistant\n"
CHATML = "{% for m in messages %}" + _TURN + "{% endfor %}" + _START + "{% endif %}"
# DeepSeek-R1: every reply begins with a thought, and earlier thoughts are cut off.
R1 = (
    "{% for m in messages %}{% set said = m['content'] %}{% if m['role'] == 'assistant' %}"
    "{% set said = said.split('</think>')[-1] %}{% endif %}{% if m['role'] != 'tool' %}"
    "<|im_start|>{{ m['role'] }}\n{{ said }}<|im_end|>{% endif %}{% endfor %}"
    + _START
    + "<think>\n{% endif %}"
)
# Qwen3: an empty thought where it is told not to think.
QWEN3 = (
    "{% for m in messages %}{% set said = m['content'] %}{% if m['role'] == 'assistant' %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "<|im_start|>{{ m['role'] }}\n{{ said }}<|im_end|>\n{% endfor %}"
    + _START
    + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
# DeepSeek-V3.1: thinks only where it is told to.
V31 = (
    "{% for m in messages %}" + _TURN + "{% endfor %}" + _START + "{% if thinking %}<think>"
    "{% else %}</think>{% endif %}{% endif %}"
)
# Mistral 7B: the user and the assistant take turns, and nobody else speaks.
MISTRAL = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must take turns: user, assistant') }}{% endif %}"
    "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %}"
    "{{ m['content'] }}<|endoftext|>{% endif %}{% endfor %}"
)
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}<|im_start|>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{{ m['content'] | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
)
# Llama 3.1: a system turn with the date.
LLAMA31 = (
    "{% if date_string is not defined %}{% if strftime_now is defined %}"
    "{% set date_string = strftime_now('%d %b %Y') %}{% else %}"
    "{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}"
    "<|im_start|>system\nToday: {{ date_string }}\n"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] }}"
    "{% set messages = messages[1:] %}{% endif %}<|im_end|>\n" + CHATML
)
DROPS_SYSTEM = (
    "{% for m in messages if m['role'] in ('user', 'assistant') %}" + _TURN + "{% endfor %}"
    "" + _START + "{% endif %}"
)
LAST_ONLY = "{% for m in messages[-1:] %}" + _TURN + "{% endfor %}" + _START + "{% endif %}"
FIRST_ONLY = LAST_ONLY.replace("messages[-1:]", "messages[:1]")
# Phi-4: the end of the text after the end of the last turn.
APPENDS = CHATML.replace("{% endif %}", "{% else %}<|endoftext|>{% endif %}")
ALWAYS_EMPTY = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n\n</think>\n\n{% endif")
BRACKETS = CHATML.replace("assistant\n{% endif", "assistant\n[THINK]{% endif")
