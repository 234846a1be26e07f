package keeppooledpods

import data.lib.pooling

violation contains {"msg": sentence} if {
	some sentence in pooling.refusals(input.review)
}
